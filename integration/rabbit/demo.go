package rabbit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// lockDemo waits until no other process uses the broker of Options.Keep, and locks it.
func lockDemo(ctx context.Context) (unlock func(), err error) {
	dir, err := demoDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	if _, unlock, err = lock(ctx, dir+".lock"); err != nil {
		return nil, fmt.Errorf("rabbit: another process is using the demo's broker: %w", err)
	}
	return unlock, nil
}

// demoDir returns the directory of the private node of Options.Keep.
func demoDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "amqpkit", "demo"), nil
}

func removeDemoNode(ctx context.Context) (name string, err error) {
	dir, err := demoDir()
	if err != nil {
		return "", err
	}
	n, err := loadNative(dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return "node " + n.nodeName(), n.remove(ctx)
}

func removeDemoContainer(ctx context.Context) (name string, err error) {
	if os.Getenv("AMQPKIT_DOCKER") == "off" {
		return "", nil
	}
	cli, err := dockerClient(ctx)
	if err != nil {
		return "", nil // without an engine there is no container
	}
	defer cli.Close()
	if _, err := cli.ContainerInspect(ctx, DemoName, client.ContainerInspectOptions{}); errdefs.IsNotFound(err) {
		return "", nil
	}
	return "container " + DemoName, forceRemove(ctx, cli, DemoName)
}

package rabbit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// lockKept waits for its turn among the processes that want the broker of Options.Keep.
func lockKept(ctx context.Context) (unlock func(), err error) {
	dir, err := keptDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		if err := pause(ctx); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("rabbit: another process uses the demo's broker: %w", err)
		}
	}
	return func() { _ = f.Close() }, nil
}

// keptDir is where the node of Options.Keep lives.
func keptDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "amqpkit", "demo"), nil
}

func removeKeptProcess(ctx context.Context) (name string, err error) {
	dir, err := keptDir()
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

func removeKeptContainer(ctx context.Context) (name string, err error) {
	if os.Getenv("AMQPKIT_DOCKER") == "off" {
		return "", nil
	}
	cli, err := dockerClient(ctx)
	if err != nil {
		return "", nil // no engine, so no container
	}
	defer cli.Close()
	if _, err := cli.ContainerInspect(ctx, DemoName, client.ContainerInspectOptions{}); errdefs.IsNotFound(err) {
		return "", nil
	}
	return "container " + DemoName, forceRemove(ctx, cli, DemoName)
}

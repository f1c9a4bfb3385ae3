package rabbit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

// ownerLabel names the process that a container or a network belongs to.
const ownerLabel = "amqpkit.owner"

func ownerLabels() map[string]string {
	return map[string]string{ownerLabel: processOf(os.Getpid()).String()}
}

// uniqueName is for what this process makes in Docker.
func uniqueName() string {
	return fmt.Sprintf("amqpkit-test-%d-%s", os.Getpid(), strconv.FormatInt(time.Now().UnixNano()%1e9, 36))
}

// dockerClient connects to the engine that testcontainers finds. Whoever calls it closes the client.
func dockerClient(ctx context.Context) (*testcontainers.DockerClient, error) {
	quiet()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return testcontainers.NewDockerClientWithOpts(ctx)
}

// withDocker calls do with a client.
func withDocker(ctx context.Context, do func(*testcontainers.DockerClient) error) error {
	cli, err := dockerClient(ctx)
	if err != nil {
		return err
	}
	defer cli.Close()
	return do(cli)
}

// quiet sets testcontainers up for the engines we meet: its reaper's image cannot be pulled everywhere (Start
// removes what was left behind instead), and our ports are published on 127.0.0.1, wherever it thinks
// that the engine is. Its log is dropped: errors tell what went wrong.
var quiet = sync.OnceFunc(func() {
	_ = os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	_ = os.Setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	tclog.SetDefault(tclog.NewNoopLogger())
})

// removeStale removes the containers and networks of processes that ended without doing so.
func removeStale(ctx context.Context) error {
	return withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		owned := make(client.Filters).Add("label", ownerLabel)
		containers, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: owned})
		if err != nil {
			return err
		}
		networks, err := cli.NetworkList(ctx, client.NetworkListOptions{Filters: owned})
		if err != nil {
			return err
		}
		var errs []error
		for _, c := range containers.Items {
			if parseProcess(c.Labels[ownerLabel]).gone() {
				errs = append(errs, forceRemove(ctx, cli, c.ID))
			}
		}
		for _, n := range networks.Items { // after the containers in them
			if parseProcess(n.Labels[ownerLabel]).gone() {
				errs = append(errs, removeNetwork(ctx, cli, n.ID))
			}
		}
		return errors.Join(errs...)
	})
}

// forceRemove removes a container and its volumes, running or not. Another process may be doing the same.
func forceRemove(ctx context.Context, cli *testcontainers.DockerClient, id string) error {
	_, err := cli.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}

// removeNetwork removes a network that no container is in. Another process may be doing the same, or may still be
// removing the containers: then the next one removes it.
func removeNetwork(ctx context.Context, cli *testcontainers.DockerClient, id string) error {
	_, err := cli.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) || errdefs.IsPermissionDenied(err) {
		return nil
	}
	return err
}

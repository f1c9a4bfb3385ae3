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

// ownerLabel is the label of a container or network that identifies the process that created it.
const ownerLabel = "amqpkit.owner"

func ownerLabels() map[string]string {
	return map[string]string{ownerLabel: processOf(os.Getpid()).String()}
}

// uniqueName returns a name for a container or network of this process.
func uniqueName() string {
	return fmt.Sprintf("amqpkit-test-%d-%s", os.Getpid(), strconv.FormatInt(time.Now().UnixNano()%1e9, 36))
}

// dockerClient connects to the engine that testcontainers detects. The caller must close the client.
func dockerClient(ctx context.Context) (*testcontainers.DockerClient, error) {
	configureTestcontainers()
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

// configureTestcontainers disables the reaper, whose image cannot be pulled everywhere; removeStale replaces it. It also
// sets the host to 127.0.0.1, where all ports are published, and discards the log: errors are returned.
var configureTestcontainers = sync.OnceFunc(func() {
	_ = os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	_ = os.Setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	tclog.SetDefault(tclog.NewNoopLogger())
})

// removeStale removes containers and networks whose process exited without removing them.
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
			if parseProcess(c.Labels[ownerLabel]).exited() {
				errs = append(errs, forceRemove(ctx, cli, c.ID))
			}
		}
		for _, n := range networks.Items { // only now: a network must not have containers
			if parseProcess(n.Labels[ownerLabel]).exited() {
				errs = append(errs, removeNetwork(ctx, cli, n.ID))
			}
		}
		return errors.Join(errs...)
	})
}

// forceRemove removes a container, running or not, and its volumes. It ignores errors that occur if another process
// removes the container at the same time.
func forceRemove(ctx context.Context, cli *testcontainers.DockerClient, id string) error {
	_, err := cli.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}

// removeNetwork removes a network without containers. It ignores errors that occur if another process is removing the
// network or its containers at the same time; in the latter case a later removeStale removes the network.
func removeNetwork(ctx context.Context, cli *testcontainers.DockerClient, id string) error {
	_, err := cli.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) || errdefs.IsPermissionDenied(err) {
		return nil
	}
	return err
}

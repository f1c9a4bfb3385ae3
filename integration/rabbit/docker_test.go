package rabbit

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/containerd/errdefs"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

func TestStaleContainersAndNetworksAreRemovedAndNoOthers(t *testing.T) {
	ctx := t.Context()
	host := &machine{progress: io.Discard}
	image, err := chooseImage(ctx, os.Getenv("AMQPKIT_DOCKER"), os.Getenv("RABBITMQ_IMAGE"), host)
	if err != nil {
		t.Skipf("needs Docker: %v", err)
	}
	cli, err := dockerClient(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	ended := exec.CommandContext(ctx, "sleep", "60")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	owner := processOf(ended.Process.Pid).String()
	stale := makeOwned(t, cli, image, map[string]string{ownerLabel: owner})
	alive := makeOwned(t, cli, image, ownerLabels())
	others := makeOwned(t, cli, image, nil)
	_ = ended.Process.Kill()
	_ = ended.Wait()

	if err := removeStale(ctx); err != nil {
		t.Fatal(err)
	}

	if container, network := isThere(t, cli, stale); container || network {
		t.Errorf("of a process that ended, there is a container: %t, a network: %t", container, network)
	}
	for what, name := range map[string]string{"a process that runs": alive, "somebody else": others} {
		if container, network := isThere(t, cli, name); !container || !network {
			t.Errorf("of %s, there is a container: %t, a network: %t", what, container, network)
		}
	}
}

// makeOwned makes a network with a container in it, both of one name and with the labels.
func makeOwned(t *testing.T, cli *testcontainers.DockerClient, image string, labels map[string]string) (name string) {
	t.Helper()
	name = uniqueName()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(forceRemove(ctx, cli, name), removeNetwork(ctx, cli, name)); err != nil {
			t.Error(err)
		}
	})
	_, err := cli.NetworkCreate(t.Context(), name, client.NetworkCreateOptions{Driver: "bridge", Labels: labels})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cli.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name:       name,
		Config:     &dockercontainer.Config{Image: image, Labels: labels},
		HostConfig: &dockercontainer.HostConfig{NetworkMode: dockercontainer.NetworkMode(name)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func isThere(t *testing.T, cli *testcontainers.DockerClient, name string) (container, network bool) {
	t.Helper()
	_, err1 := cli.ContainerInspect(t.Context(), name, client.ContainerInspectOptions{})
	_, err2 := cli.NetworkInspect(t.Context(), name, client.NetworkInspectOptions{})
	for _, err := range []error{err1, err2} {
		if err != nil && !errdefs.IsNotFound(err) {
			t.Fatal(err)
		}
	}
	return err1 == nil, err2 == nil
}

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

func TestOnlyStaleContainersAndNetworksAreRemoved(t *testing.T) {
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
	owner := exec.CommandContext(ctx, "sleep", "60")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	stale := createLabelled(t, cli, image, map[string]string{ownerLabel: processOf(owner.Process.Pid).String()})
	active := createLabelled(t, cli, image, ownerLabels())
	unlabelled := createLabelled(t, cli, image, nil)
	_ = owner.Process.Kill()
	_ = owner.Wait()

	if err := removeStale(ctx); err != nil {
		t.Fatal(err)
	}

	if container, network := exists(t, cli, stale); container || network {
		t.Errorf("owner exited: container exists: %t, network exists: %t; want neither", container, network)
	}
	for what, name := range map[string]string{"owner is running": active, "no label": unlabelled} {
		if container, network := exists(t, cli, name); !container || !network {
			t.Errorf("%s: container exists: %t, network exists: %t; want both", what, container, network)
		}
	}
}

// createLabelled creates a network and a container in it, with the same name and labels.
func createLabelled(t *testing.T, cli *testcontainers.DockerClient, image string, labels map[string]string) (name string) {
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

func exists(t *testing.T, cli *testcontainers.DockerClient, name string) (container, network bool) {
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

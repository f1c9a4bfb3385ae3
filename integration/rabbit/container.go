package rabbit

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
)

// ownerLabel names the process that a container belongs to.
const ownerLabel = "amqpkit.owner"

// guestConf lets the user guest in from outside the container, whatever the image says.
const guestConf = "loopback_users.guest = false\n"

// relaxedConf, which RabbitMQ knows since 4.0, accepts the declaration of a pika script, classic and transient, for
// a quorum queue that is there already: what people try after the demo works. A test's broker is strict.
//
//go:embed debian/relaxed.conf
var relaxedConf string

var amqpPort = network.MustParsePort("5672/tcp")

// container is a node in a Docker container.
type container struct {
	image  string
	name   string
	keep   bool
	reused bool
	port   int
	ctr    *testcontainers.DockerContainer // nil until it was started once
}

func newContainer(ctx context.Context, image string, o Options) (*container, error) {
	c := &container{image: image, keep: o.Keep}
	if o.Keep {
		c.name = DemoName
		return c, c.findKept(ctx)
	}
	owner := processOf(os.Getpid())
	c.name = fmt.Sprintf("amqpkit-test-%d-%s", owner.PID, strconv.FormatInt(time.Now().UnixNano()%1e9, 36))
	return c, removeStaleContainers(ctx)
}

// findKept looks for the container that an earlier process left running.
func (c *container) findKept(ctx context.Context) error {
	cli, err := dockerClient(ctx)
	if err != nil {
		return err
	}
	defer cli.Close()
	found, err := cli.ContainerInspect(ctx, c.name, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	runs := found.Container.Config.Image
	if os.Getenv("RABBITMQ_IMAGE") != "" && runs != c.image {
		return fmt.Errorf("rabbit: container %s runs image %s, not %s: end it first with make demo-stop", c.name, runs, c.image)
	}
	c.image, c.reused = runs, true
	return nil
}

func (c *container) start(ctx context.Context) error {
	if c.ctr != nil {
		return c.ctr.Start(ctx)
	}
	// Between choosing a free port and binding it, another process may have been faster.
	for attempt := 1; ; attempt++ {
		err := c.create(ctx)
		if err == nil || c.reused || attempt == 5 || !strings.Contains(err.Error(), "port is already allocated") &&
			!strings.Contains(err.Error(), "address already in use") {
			return err
		}
		if err := c.remove(ctx); err != nil {
			return err
		}
		c.ctr = nil
	}
}

func (c *container) create(ctx context.Context) error {
	quiet()
	preferred, conf := 0, guestConf
	if c.keep && os.Getenv("RABBITMQ_IMAGE") == "" {
		conf += relaxedConf
	}
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithFiles(testcontainers.ContainerFile{
			Reader:            strings.NewReader(conf),
			ContainerFilePath: "/etc/rabbitmq/conf.d/90-amqpkit.conf",
			FileMode:          0o644,
		}),
		testcontainers.WithName(c.name),
		testcontainers.WithExposedPorts(amqpPort.String()), // or all that the image exposes is published, on all interfaces
	}
	if c.keep {
		preferred = 5672
		options = append(options, testcontainers.WithReuseByName(c.name))
	} else {
		options = append(options, testcontainers.WithLabels(map[string]string{ownerLabel: processOf(os.Getpid()).String()}))
	}
	port, err := freePort(preferred)
	if err != nil {
		return err
	}
	options = append(options,
		testcontainers.WithConfigModifier(func(cfg *dockercontainer.Config) {
			cfg.Hostname = "amqpkit" // part of the node's name, and so of where its data is
		}),
		testcontainers.WithHostConfigModifier(func(cfg *dockercontainer.HostConfig) {
			cfg.PortBindings = network.PortMap{amqpPort: {{
				HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: strconv.Itoa(port),
			}}}
		}))
	if c.ctr, err = testcontainers.Run(ctx, c.image, options...); err != nil {
		return err
	}
	// A reused container has the port that it was given long ago.
	info, err := c.ctr.Inspect(ctx)
	if err != nil {
		return err
	}
	bindings := info.HostConfig.PortBindings[amqpPort]
	if len(bindings) == 0 {
		return fmt.Errorf("container %s publishes no port 5672: remove it with docker rm -fv %s", c.name, c.name)
	}
	c.port, err = strconv.Atoi(bindings[0].HostPort)
	return err
}

func (c *container) stop(ctx context.Context) error {
	timeout := stopTimeout
	return c.ctr.Stop(ctx, &timeout)
}

func (c *container) remove(ctx context.Context) error {
	if c.ctr == nil {
		return nil
	}
	return c.ctr.Terminate(ctx, testcontainers.StopTimeout(0))
}

func (c *container) run(ctx context.Context, command ...string) (string, error) {
	code, out, err := c.ctr.Exec(ctx, command, tcexec.Multiplexed())
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(out)
	if err != nil {
		return "", err
	}
	if code != 0 {
		return string(text), fmt.Errorf("exit status %d", code)
	}
	return string(text), nil
}

func (c *container) running(ctx context.Context) error {
	state, err := c.ctr.State(ctx)
	if err != nil {
		return err
	}
	if !state.Running {
		return fmt.Errorf("the container ended with exit status %d", state.ExitCode)
	}
	return nil
}

func (c *container) log(ctx context.Context) string {
	if c.ctr == nil {
		return ""
	}
	cli, err := dockerClient(ctx)
	if err != nil {
		return ""
	}
	defer cli.Close()
	logs, err := cli.ContainerLogs(ctx, c.ctr.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "25"})
	if err != nil {
		return ""
	}
	defer logs.Close()
	var text bytes.Buffer
	_, _ = stdcopy.StdCopy(&text, &text, logs)
	return text.String()
}

func (c *container) url() string { return localURL(c.port) }

func (c *container) found() bool { return c.reused }

func (c *container) describe() string {
	return fmt.Sprintf("in container %s of image %s", c.name, c.image)
}

// removeStaleContainers removes the containers of processes that ended without doing so.
func removeStaleContainers(ctx context.Context) error {
	cli, err := dockerClient(ctx)
	if err != nil {
		return err
	}
	defer cli.Close()
	list, err := cli.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: make(client.Filters).Add("label", ownerLabel),
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list.Items {
		if parseProcess(c.Labels[ownerLabel]).gone() {
			errs = append(errs, forceRemove(ctx, cli, c.ID))
		}
	}
	return errors.Join(errs...)
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

// forceRemove removes a container and its volumes, running or not. Another process may be doing the same.
func forceRemove(ctx context.Context, cli *testcontainers.DockerClient, id string) error {
	_, err := cli.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}

package rabbit

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"

	"github.com/amqpkit/amqpkit/integration/internal/ports"
)

// guestConf allows the user guest to log in from outside the container.
const guestConf = "loopback_users.guest = false\n"

// relaxedConf makes RabbitMQ 4.0 and later accept the declaration of an existing quorum queue as a classic, transient
// queue, as pika scripts declare it. Only the demo's broker uses it, so that such scripts work after the demo.
//
//go:embed debian/relaxed.conf
var relaxedConf string

const (
	amqpPort       = 5672
	managementPort = 15672
	ownHost        = "amqpkit" // of a container that is not part of a cluster
)

var loopback = netip.MustParseAddr("127.0.0.1")

func tcp(port int) network.Port { return network.MustParsePort(strconv.Itoa(port) + "/tcp") }

// container is a node in a Docker container.
type container struct {
	image    string
	name     string
	options  Options
	hostname string // part of the node name and of the data directory's path
	network  string // of its cluster, or "" for Docker's default
	cookie   string // of its cluster
	reused   bool
	ports    map[int]int                     // container port to port of 127.0.0.1; does not change after create
	ctr      *testcontainers.DockerContainer // nil until the first start

	// execs is read-locked by commands and locked by pause. A command that starts while its container is being paused
	// would be suspended while Docker holds the lock that ContainerUnpause needs: a deadlock.
	execs sync.RWMutex
}

func newContainer(ctx context.Context, image string, o Options) (*container, error) {
	c := &container{image: image, options: o, hostname: ownHost}
	if o.Keep {
		c.name = DemoName
		return c, c.find(ctx)
	}
	c.name = uniqueName()
	return c, removeStale(ctx)
}

// find looks for a container of that name, which another process created.
func (c *container) find(ctx context.Context) error {
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
	image := found.Container.Config.Image
	if c.options.Keep && os.Getenv("RABBITMQ_IMAGE") != "" && image != c.image {
		return fmt.Errorf("rabbit: container %s runs image %s, not %s; stop it first with make demo-stop", c.name, image, c.image)
	}
	c.image, c.reused = image, true
	return nil
}

func (c *container) start(ctx context.Context) error {
	if c.ctr != nil {
		return c.ctr.Start(ctx)
	}
	// Another process may bind a port after it was chosen as free.
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
	configureTestcontainers()
	if err := c.choosePorts(); err != nil {
		return err
	}
	var exposed []string
	bindings := network.PortMap{}
	for port, host := range c.ports {
		exposed = append(exposed, tcp(port).String())
		bindings[tcp(port)] = []network.PortBinding{{HostIP: loopback, HostPort: strconv.Itoa(host)}}
	}
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithFiles(c.files()...),
		testcontainers.WithName(c.name),
		testcontainers.WithExposedPorts(exposed...), // otherwise all ports of the image are published on all interfaces
		testcontainers.WithConfigModifier(func(cfg *dockercontainer.Config) { cfg.Hostname = c.hostname }),
		testcontainers.WithHostConfigModifier(func(cfg *dockercontainer.HostConfig) {
			cfg.PortBindings = bindings
			if c.network != "" {
				cfg.NetworkMode = dockercontainer.NetworkMode(c.network)
				// Disconnecting a container from its network removes the line with only the host name from /etc/hosts.
				// With the additional name the line stays, so that the node can still resolve its own name.
				cfg.ExtraHosts = []string{c.hostname + " self:" + loopback.String()}
				// The default is up to 20 s for each name of an unreachable node.
				cfg.DNSOptions = []string{"timeout:1", "attempts:1"}
			}
		}),
	}
	if c.options.Keep || c.reused {
		options = append(options, testcontainers.WithReuseByName(c.name))
	} else {
		options = append(options, testcontainers.WithLabels(ownerLabels()))
	}
	if c.network != "" {
		options = append(options,
			tcnetwork.WithNetworkName([]string{c.hostname}, c.network),
			testcontainers.WithEnv(map[string]string{"RABBITMQ_ERLANG_COOKIE": c.cookie}))
	}
	var err error
	if c.ctr, err = testcontainers.Run(ctx, c.image, options...); err != nil {
		return err
	}
	if !c.reused {
		return nil
	}
	// A reused container keeps the ports from its creation.
	info, err := c.ctr.Inspect(ctx)
	if err != nil {
		return err
	}
	c.ports = map[int]int{}
	for port, published := range info.HostConfig.PortBindings {
		if len(published) > 0 {
			if c.ports[int(port.Num())], err = strconv.Atoi(published[0].HostPort); err != nil {
				return err
			}
		}
	}
	if c.ports[amqpPort] == 0 {
		return fmt.Errorf("container %s does not publish port %d; remove it with docker rm -fv %s", c.name, amqpPort, c.name)
	}
	return nil
}

// choosePorts assigns a free port of 127.0.0.1 to each published port.
func (c *container) choosePorts() error {
	c.ports = map[int]int{}
	for _, port := range append([]int{amqpPort, managementPort}, c.options.Ports...) {
		preferred := 0
		if c.options.Keep {
			preferred = port
		}
		host, err := ports.Free(preferred)
		if err != nil {
			return err
		}
		c.ports[port] = host
	}
	return nil
}

// files returns the files to add to the container.
func (c *container) files() []testcontainers.ContainerFile {
	conf := guestConf
	if c.options.Keep && os.Getenv("RABBITMQ_IMAGE") == "" {
		conf += relaxedConf
	}
	content := map[string][]byte{"/etc/rabbitmq/conf.d/90-amqpkit.conf": []byte(conf + c.options.Conf + "\n")}
	if c.options.Plugins != nil {
		content["/etc/rabbitmq/enabled_plugins"] = []byte(enabledPlugins(c.options.Plugins))
	}
	maps.Copy(content, c.options.Files)
	var files []testcontainers.ContainerFile
	for path, text := range content {
		files = append(files, testcontainers.ContainerFile{
			Reader: bytes.NewReader(text), ContainerFilePath: path, FileMode: 0o644,
		})
	}
	return files
}

func (c *container) stop(ctx context.Context) error {
	timeout := stopTimeout
	return c.ctr.Stop(ctx, &timeout)
}

func (c *container) kill(ctx context.Context) error {
	return withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerKill(ctx, c.ctr.ID, client.ContainerKillOptions{Signal: "KILL"})
		if err != nil && !errdefs.IsConflict(err) { // conflict: the container is not running
			return err
		}
		exit := cli.ContainerWait(ctx, c.ctr.ID, client.ContainerWaitOptions{Condition: dockercontainer.WaitConditionNotRunning})
		select {
		case <-exit.Result:
			return nil
		case err := <-exit.Error:
			return err
		}
	})
}

func (c *container) pause(ctx context.Context) error {
	c.execs.Lock()
	defer c.execs.Unlock()
	return withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerPause(ctx, c.ctr.ID, client.ContainerPauseOptions{})
		return err
	})
}

func (c *container) unpause(ctx context.Context) error {
	return withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerUnpause(ctx, c.ctr.ID, client.ContainerUnpauseOptions{})
		return err
	})
}

func (c *container) remove(ctx context.Context) error {
	if c.ctr == nil {
		return nil
	}
	return c.ctr.Terminate(ctx, testcontainers.StopTimeout(0))
}

func (c *container) detach(ctx context.Context) {
	_, _ = c.ctr.State(ctx) // closes idle connections to the engine, which Exec leaves open
}

func (c *container) run(ctx context.Context, command ...string) (string, error) {
	c.execs.RLock()
	defer c.execs.RUnlock()
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
		return fmt.Errorf("the container exited with status %d", state.ExitCode)
	}
	return nil
}

func (c *container) pid(ctx context.Context) int {
	state, err := c.ctr.State(ctx)
	if err != nil {
		return 0
	}
	return state.Pid
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

func (c *container) url() string { return localURL(c.ports[amqpPort]) }

func (c *container) hostPort(port int) int { return c.ports[port] }

func (c *container) nodeName() string { return "rabbit@" + c.hostname }

func (c *container) handle() string { return containerHandle + c.name }

func (c *container) existed() bool { return c.reused }

func (c *container) describe() string {
	return fmt.Sprintf("in container %s of image %s", c.name, c.image)
}

package rabbit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// DemoName is the name of the container that Options.Keep creates and reuses.
const DemoName = "amqpkit-demo"

const (
	startTimeout = 2 * time.Minute  // for a node to accept logins after it was started
	stopTimeout  = 30 * time.Second // for a graceful shutdown; the node is killed after that
)

// Broker is a RabbitMQ node, either standalone or part of a Cluster. Stop, Start, Restart, Kill, Pause, Unpause
// and Close must not be called concurrently with each other. All other methods are safe for concurrent use.
type Broker struct {
	url     string
	version string
	keep    bool
	unlock  func()
	node    node // nil for the broker from AMQP_URL
}

// A node is a RabbitMQ node that this package started: a container or a group of processes.
type node interface {
	// start starts or restarts the node, always on the same port. It may return before the node is ready.
	start(ctx context.Context) error
	// stop shuts the node down gracefully and waits until it has exited. The data is kept.
	stop(ctx context.Context) error
	// kill kills the node, paused or not, and waits until it has exited. The data is kept.
	kill(ctx context.Context) error
	// pause suspends the node's processes.
	pause(ctx context.Context) error
	// unpause resumes them.
	unpause(ctx context.Context) error
	// remove kills the node and deletes its data.
	remove(ctx context.Context) error
	// detach releases the resources of this process and leaves the node running.
	detach(ctx context.Context)
	// run runs a command in the node's environment and returns its combined output.
	run(ctx context.Context, command ...string) (string, error)
	// running returns an error if the node has exited.
	running(ctx context.Context) error
	// pid returns the process id of the node's first process on this machine, or 0.
	pid(ctx context.Context) int
	// log returns the last lines of the node's log.
	log(ctx context.Context) string
	// url returns the AMQP address, which is known once the node was started.
	url() string
	// nodeName returns the Erlang node name, such as "rabbit@host".
	nodeName() string
	// hostPort returns the port of 127.0.0.1 that is mapped to a port of the node, or 0.
	hostPort(port int) int
	// describe returns the rest of a sentence that starts with "RabbitMQ 4.3.6".
	describe() string
	// handle returns the argument for attach.
	handle() string
	// existed reports whether an earlier process created the node. If so, a failed Start must not remove it.
	existed() bool
}

// Start starts a broker, or uses the one from AMQP_URL, and returns once it accepts logins. It returns an
// *UnavailableError if this machine cannot run RabbitMQ, a *DockerRequiredError if Files or Ports are set and Docker is
// missing, and ErrNotOwned if AMQP_URL is set and the options require a different broker.
func Start(ctx context.Context, o Options) (*Broker, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	b := &Broker{keep: o.Keep, unlock: func() {}}
	if o.Keep {
		var err error
		if b.unlock, err = lockDemo(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.start(ctx, o); err != nil {
		b.unlock()
		return nil, err
	}
	return b, nil
}

func (b *Broker) start(ctx context.Context, o Options) error {
	var c choice
	var err error
	host := &machine{progress: o.Progress, installedOnly: o.InstalledOnly}
	if o.containerOnly() {
		c.image, err = chooseContainer(ctx, os.Getenv, host, "a RabbitMQ with Options.Files or Options.Ports")
	} else {
		c, err = choose(ctx, os.Getenv, host)
	}
	if err != nil {
		return err
	}
	switch {
	case c.url != "":
		if o.customized() {
			return fmt.Errorf("%w: Options.Conf and Options.Plugins; unset AMQP_URL", ErrNotOwned)
		}
		b.url = c.url
		if b.version, err = handshake(ctx, c.url); err != nil {
			return fmt.Errorf("rabbit: the broker from AMQP_URL does not answer: %w", err)
		}
		return nil
	case c.image != "":
		b.node, err = newContainer(ctx, c.image, o)
	default:
		b.node, err = newNative(ctx, c.server, o)
	}
	if err != nil {
		return err
	}
	if err := b.Start(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("rabbit: interrupted while the broker was starting: %w", context.Cause(ctx))
		}
		return errors.Join(err, b.discard())
	}
	return nil
}

// discard removes a node that did not start, even if the caller's context is done.
func (b *Broker) discard() error {
	if b.node.existed() {
		return errors.New("an earlier demo created this broker; if it no longer starts, remove it with make demo-stop")
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return b.node.remove(ctx)
}

// URL returns the broker's address: amqp://guest:guest@127.0.0.1:PORT/, or the value of AMQP_URL. A restart does not
// change it.
func (b *Broker) URL() string { return b.url }

// HostPort returns the port of 127.0.0.1 that is mapped to a port of the container. The port must be 5672, 15672 (the
// management API, if its plugin is enabled) or one of Options.Ports. A restart does not change the mapping. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) HostPort(port int) (int, error) {
	if b.node == nil {
		return 0, ErrNotOwned
	}
	if host := b.node.hostPort(port); host != 0 {
		return host, nil
	}
	return 0, fmt.Errorf("rabbit: port %d is not published; add it to Options.Ports", port)
}

// Node returns the Erlang node name, such as "rabbit@node1", or "" for the broker from AMQP_URL.
func (b *Broker) Node() string {
	if b.node == nil {
		return ""
	}
	return b.node.nodeName()
}

// Version returns the broker's version, such as "4.3.6".
func (b *Broker) Version() string { return b.version }

// Owned reports whether this package started the broker. If not, it cannot be stopped or inspected.
func (b *Broker) Owned() bool { return b.node != nil }

// PID returns the id of the node's first process, of which all others descend. It returns zero for the broker from AMQP_URL. If
// Docker runs in a virtual machine, the id is one of that machine.
func (b *Broker) PID(ctx context.Context) int {
	if b.node == nil {
		return 0
	}
	return b.node.pid(ctx)
}

// AtLeast reports whether the broker's version is major.minor or newer.
func (b *Broker) AtLeast(major, minor int) bool { return atLeast(b.version, major, minor) }

func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	x, err1 := strconv.Atoi(parts[0])
	y, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (x > major || x == major && y >= minor)
}

// String returns the version and how the broker runs, such as "RabbitMQ 4.3.6 in container amqpkit-test-1d3f of image
// rabbitmq:4.3-management".
func (b *Broker) String() string {
	how := "from AMQP_URL"
	if b.node != nil {
		how = b.node.describe()
	}
	return "RabbitMQ " + b.version + " " + how
}

// Restart calls Stop and Start. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Restart(ctx context.Context) error {
	if err := b.Stop(ctx); err != nil {
		return err
	}
	return b.Start(ctx)
}

// Stop shuts the broker down gracefully, as an upgrade does: clients receive connection.close. Durable data is kept
// for Start. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Stop(ctx context.Context) error {
	if b.node == nil {
		return ErrNotOwned
	}
	if err := b.node.stop(ctx); err != nil {
		return fmt.Errorf("rabbit: stop %s: %w", b, err)
	}
	return nil
}

// Start starts a stopped or killed broker on the same port, with the same data, and returns once it accepts
// logins. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Start(ctx context.Context) error {
	if b.node == nil {
		return ErrNotOwned
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	version := ""
	err := b.node.start(ctx)
	if err == nil {
		version, err = awaitReady(ctx, b.node)
	}
	if err != nil {
		return fmt.Errorf("rabbit: start RabbitMQ %s: %w%s", b.node.describe(), err, b.logTail())
	}
	if b.version == "" { // only the first time: other goroutines may read the fields during a restart
		b.url, b.version = b.node.url(), version
	}
	return nil
}

// logTail quotes the end of the node's log, even if the caller's context is done.
func (b *Broker) logTail() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	log := b.node.log(ctx)
	if log == "" {
		return ""
	}
	return "\nend of its log:\n" + log
}

// Close kills the broker and deletes its data. The brokers from AMQP_URL, Options.Keep and Attach continue to run; another
// process may then use the latter two.
func (b *Broker) Close(ctx context.Context) error {
	defer b.unlock()
	if b.node == nil {
		return nil
	}
	if b.keep {
		b.node.detach(ctx)
		return nil
	}
	_ = os.Remove(lockFile(b.Handle())) // of processes that attached
	if err := b.node.remove(ctx); err != nil {
		return fmt.Errorf("rabbit: remove %s: %w", b, err)
	}
	return nil
}

// StopKept kills the broker that Options.Keep left running and deletes its data. It returns the name of the container
// or node, or "" if no such broker exists.
func StopKept(ctx context.Context) (string, error) {
	if name, err := removeDemoContainer(ctx); name != "" || err != nil {
		return name, err
	}
	return removeDemoNode(ctx)
}

// Ctl runs rabbitmqctl, which takes about a second, and returns its output. It returns ErrNotOwned for the broker from
// AMQP_URL.
func (b *Broker) Ctl(ctx context.Context, args ...string) (string, error) {
	if b.node == nil {
		return "", ErrNotOwned
	}
	out, err := b.node.run(ctx, append([]string{"rabbitmqctl", "--quiet"}, args...)...)
	if err != nil {
		return out, fmt.Errorf("rabbit: rabbitmqctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out))
	}
	return out, nil
}

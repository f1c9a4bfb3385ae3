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

// DemoName is the name of the container that Options.Keep starts, and reuses.
const DemoName = "amqpkit-demo"

const (
	startTimeout = 2 * time.Minute  // from the start of a node until it answers
	stopTimeout  = 30 * time.Second // for an orderly end, before it is killed
)

// Broker is a running RabbitMQ: the only node, or one of a Cluster. Stop, StartAgain, Restart, Kill, Pause, Unpause and
// Close are for one goroutine at a time; the other methods may be called by any, also meanwhile.
type Broker struct {
	url     string
	version string
	keep    bool
	unlock  func()
	node    node // nil for the broker from AMQP_URL
}

// A node is a RabbitMQ that this package started: a container, or a group of processes.
type node interface {
	// start starts it, the first time or again, always on the same port. It need not wait until it is ready.
	start(ctx context.Context) error
	// stop ends it in an orderly way and returns when it has ended. Its data stays.
	stop(ctx context.Context) error
	// kill ends it at once and returns when it has ended, paused or not. Its data stays.
	kill(ctx context.Context) error
	// freeze stops its processes where they are, and thaw lets them go on.
	freeze(ctx context.Context) error
	thaw(ctx context.Context) error
	// remove ends it at once, its data with it.
	remove(ctx context.Context) error
	// run runs a command where the node runs and returns what that prints, standard error included.
	run(ctx context.Context, command ...string) (string, error)
	// running returns an error if it has ended: waiting for it is pointless.
	running(ctx context.Context) error
	// log returns the last lines of its log.
	log(ctx context.Context) string
	// url is where it listens, once started.
	url() string
	// nodeName is what Erlang calls it: rabbit@host.
	nodeName() string
	// hostPort is the port of 127.0.0.1 that a port of the node is reached on, or 0.
	hostPort(port int) int
	// describe completes "RabbitMQ 4.3.6 ".
	describe() string
	// found reports whether an earlier process made it: whatever goes wrong, it is not ours to remove.
	found() bool
}

// Start gets a broker and returns when it answers. Its error says what to install, if nothing that could
// run one is there.
func Start(ctx context.Context, o Options) (*Broker, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	b := &Broker{keep: o.Keep, unlock: func() {}}
	if o.Keep {
		var err error
		if b.unlock, err = lockKept(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.begin(ctx, o); err != nil {
		b.unlock()
		return nil, err
	}
	return b, nil
}

func (b *Broker) begin(ctx context.Context, o Options) error {
	var c choice
	var err error
	host := &machine{progress: o.Progress, installedOnly: o.InstalledOnly}
	if o.containerOnly() {
		c.image, err = chooseContainer(ctx, os.Getenv, host, "a RabbitMQ with Files or Ports of its own")
	} else {
		c, err = choose(ctx, os.Getenv, host)
	}
	if err != nil {
		return err
	}
	switch {
	case c.url != "":
		if o.shaped() {
			return fmt.Errorf("%w, and a RabbitMQ with Conf or Plugins of its own would be: unset AMQP_URL", ErrNotOwned)
		}
		b.url = c.url
		if b.version, err = handshake(ctx, c.url); err != nil {
			return fmt.Errorf("rabbit: the broker from AMQP_URL does not answer: %w", err)
		}
		return nil
	case c.image != "":
		b.node, err = newContainer(ctx, c.image, o)
	default:
		b.node, err = newProcess(ctx, c.server, o)
	}
	if err != nil {
		return err
	}
	if err := b.StartAgain(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("rabbit: interrupted while the broker was starting: %w", context.Cause(ctx))
		}
		return errors.Join(err, b.discard())
	}
	return nil
}

// discard removes what was started for nothing, whether or not the caller's context has ended.
func (b *Broker) discard() error {
	if b.node.found() {
		return errors.New("it was left running by an earlier demo; if it cannot be started any more, end it with make demo-stop")
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return b.node.remove(ctx)
}

// URL is the broker's address, for the user guest: amqp://guest:guest@127.0.0.1:PORT/, or AMQP_URL. It does
// not change while the broker lives.
func (b *Broker) URL() string { return b.url }

// HostPort is the port of 127.0.0.1 on which a port of the container is reached: 5672, or one of Options.Ports. Like the
// URL it stays the same.
func (b *Broker) HostPort(port int) (int, error) {
	if b.node == nil {
		return 0, ErrNotOwned
	}
	if host := b.node.hostPort(port); host != 0 {
		return host, nil
	}
	return 0, fmt.Errorf("rabbit: port %d is not published: name it in Options.Ports", port)
}

// Node is what Erlang calls the broker, such as "rabbit@node1", or "" for the broker from AMQP_URL.
func (b *Broker) Node() string {
	if b.node == nil {
		return ""
	}
	return b.node.nodeName()
}

// Version is what the broker says it is, such as "4.3.6".
func (b *Broker) Version() string { return b.version }

// Owned reports whether the broker was started here, so that it may be stopped and inspected.
func (b *Broker) Owned() bool { return b.node != nil }

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

// String tells which broker this is and how it runs: "RabbitMQ 4.3.6 in container amqpkit-test-1d3f".
func (b *Broker) String() string {
	how := "from AMQP_URL"
	if b.node != nil {
		how = b.node.describe()
	}
	return "RabbitMQ " + b.version + " " + how
}

// Restart stops the broker and starts it again: same port, same data. It returns when the broker answers.
// It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Restart(ctx context.Context) error {
	if err := b.Stop(ctx); err != nil {
		return err
	}
	return b.StartAgain(ctx)
}

// Stop ends the broker in an orderly way, as an upgrade would: clients are told, and durable data is kept for
// StartAgain. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Stop(ctx context.Context) error {
	if b.node == nil {
		return ErrNotOwned
	}
	if err := b.node.stop(ctx); err != nil {
		return fmt.Errorf("rabbit: stop %s: %w", b, err)
	}
	return nil
}

// StartAgain starts a stopped broker and returns when it answers. It returns ErrNotOwned for the broker
// from AMQP_URL.
func (b *Broker) StartAgain(ctx context.Context) error {
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
		return fmt.Errorf("rabbit: start RabbitMQ %s: %w%s", b.node.describe(), err, b.lastWords())
	}
	if b.version == "" { // the first time: others may read these while the broker is restarted
		b.url, b.version = b.node.url(), version
	}
	return nil
}

// lastWords quotes the end of the node's log, also when the caller's context has ended.
func (b *Broker) lastWords() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	log := b.node.log(ctx)
	if log == "" {
		return ""
	}
	return "\nits log ends with:\n" + log
}

// Close ends the broker and removes its data. It leaves alone what it did not start, and what Options.Keep asked
// for, which another process may use from then on.
func (b *Broker) Close(ctx context.Context) error {
	b.unlock()
	if b.node == nil || b.keep {
		return nil
	}
	if err := b.node.remove(ctx); err != nil {
		return fmt.Errorf("rabbit: remove %s: %w", b, err)
	}
	return nil
}

// StopKept ends the broker that Options.Keep left running and removes its data. It returns what it ended, or ""
// if there was none.
func StopKept(ctx context.Context) (string, error) {
	if name, err := removeKeptContainer(ctx); name != "" || err != nil {
		return name, err
	}
	return removeKeptProcess(ctx)
}

// Ctl runs rabbitmqctl with the arguments and returns what it prints. It takes about a second. It returns
// ErrNotOwned for the broker from AMQP_URL.
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

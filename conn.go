package amqpkit

import (
	"context"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/dial"
	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// closeTimeout bounds Close if ctx has no deadline: a blocked broker may never answer.
const closeTimeout = 5 * time.Second

// A Conn keeps up to two connections to RabbitMQ alive, one for publishing and one for consuming. Each is replaced by a new session when it
// is lost. [Conn.DedicatedConnection] opens more. Its methods may be called from any goroutine.
type Conn struct {
	cfg     Config
	dialer  *dial.Config
	targets []dial.Target
	setup   setup

	ctx     context.Context // ends when the Conn shuts down; its cause wraps ErrClosed
	cancel  context.CancelCauseFunc
	cutCtx  context.Context // ends when the sockets must be closed without waiting for the broker
	cut     context.CancelFunc
	closing context.Context // of the lines of the shutdown: the values of the ctx of Close; guarded by mu
	running sync.WaitGroup  // goroutines
	done    chan struct{}

	repeated logs.Limiter // warnings that may repeat

	mu      sync.Mutex
	links   []*link       // the first one is started by Dial and Open, and takes the role that is asked for first
	changed chan struct{} // closed and replaced on every change

	missing    []*missing // consumers without their queue
	restoring  bool       // restore is running
	restored   time.Time  // when the last repeated run of Setup began
	restoreErr error      // how it failed
}

// Dial connects to the broker at url and returns a Conn that is ready. Each setup runs on every new session, in order, as
// [Config].Setup: topology.Queues("hello").Declare is one. The error is a *[amqperr.FieldError] for a malformed URL,
// otherwise a *[DialError]. ctx bounds the dialling only; the Conn lives until Close.
func Dial(ctx context.Context, url string, setup ...func(ctx context.Context, ac *amqp.Connection) error) (*Conn, error) {
	cfg := Config{URLs: []string{url}}
	if len(setup) > 0 {
		cfg.Setup = func(ctx context.Context, ac *amqp.Connection) error {
			for _, step := range setup {
				if err := step(ctx, ac); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return DialConfig(ctx, cfg)
}

// DialConfig is [Dial] with a Config. It tries every URL once, in random order, over all addresses of its host. If all attempts fail, it
// returns the error from the first broker that answered, or else the first error.
func DialConfig(ctx context.Context, cfg Config) (*Conn, error) {
	c, err := newConn(cfg)
	if err != nil {
		return nil, err
	}
	s, failed := c.dialer.ConnectAny(ctx, c.targets, c.setUp)
	if failed != nil {
		c.cancel(ErrClosed)
		return nil, dialError(failed)
	}
	c.start(ctx, s)
	return c, nil
}

// Open returns at once, connects in the background and retries until it succeeds: see [Conn.Ready] and [Conn.Err]. Its error reports
// every wrong field of cfg.
func Open(cfg Config) (*Conn, error) {
	c, err := newConn(cfg)
	if err != nil {
		return nil, err
	}
	c.start(context.Background(), nil)
	return c, nil
}

func newConn(cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	dialer, targets, err := cfg.dialer()
	if err != nil {
		return nil, err
	}
	c := &Conn{
		cfg:     cfg,
		dialer:  dialer,
		targets: targets,
		setup:   setup{running: make(chan struct{}, 1)},
		done:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.cutCtx, c.cut = context.WithCancel(context.Background())
	c.closing = context.Background()
	return c, nil
}

// start starts the first connection. ctx is the caller's, and s is its session, or nil.
func (c *Conn) start(ctx context.Context, s *dial.Session) {
	c.mu.Lock()
	c.newLink(ctx, unassigned, s)
	c.mu.Unlock()
	go func() {
		<-c.ctx.Done()
		c.mu.Lock() // no goroutine is started after this
		c.notify()
		c.mu.Unlock()
		c.running.Wait()
		close(c.done)
	}()
}

// newLink starts a connection for a call with ctx. c.mu is held.
func (c *Conn) newLink(ctx context.Context, r role, s *dial.Session) *link {
	ctx = context.WithoutCancel(ctx)
	l := &link{conn: c, ctx: ctx, role: r, failures: new(logs.Limiter)}
	if s != nil {
		l.session, l.unnamed = s.Connection, func(r role) { c.logConnected(ctx, r, s) }
	}
	c.links = append(c.links, l)
	c.running.Go(func() { l.run(s) })
	c.notify() // the Conn is not ready until it is connected
	return l
}

// PublishConnection returns the current session for publishing, on which Setup has run. The first call opens the connection. It waits
// until ctx ends. The connection belongs to the Conn: do not close it, and call PublishConnection again after a loss.
func (c *Conn) PublishConnection(ctx context.Context) (*amqp.Connection, error) {
	return c.session(ctx, publishing)
}

// ConsumeConnection is [Conn.PublishConnection] for the consuming connection.
func (c *Conn) ConsumeConnection(ctx context.Context) (*amqp.Connection, error) {
	return c.session(ctx, consuming)
}

// Channel opens a raw channel on the consuming connection, for operations that the other packages do not cover. The caller closes it.
// It is closed when its session is lost.
func (c *Conn) Channel(ctx context.Context) (*amqp.Channel, error) {
	ac, err := c.ConsumeConnection(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := wire.Channel(ctx, ac)
	if err != nil {
		if fix := wire.ChannelFix(err); fix != "" {
			err = fmt.Errorf("%w; %s", err, fix)
		}
		return nil, wrap("open a channel", err)
	}
	return ch, nil
}

func (c *Conn) session(ctx context.Context, r role) (*amqp.Connection, error) {
	var ac *amqp.Connection
	var connected func(role) // logs that a link is up that has its role from this call
	err := c.await(ctx, func() error {
		l := c.find(r)
		if l == nil {
			if l = c.find(unassigned); l == nil {
				l = c.newLink(ctx, r, nil)
			}
			l.role = r
		}
		if ac = l.session; l.down() == nil {
			connected, l.unnamed = l.unnamed, nil
		}
		return l.down()
	})
	if connected != nil {
		connected(r)
	}
	if err != nil {
		return nil, err
	}
	return ac, nil
}

// Err returns why the Conn is not ready, without waiting. It is nil if every connection that was opened is
// up, Setup has run on it, and every consumer has its queue. Otherwise the error gives the state:
//
//   - A *[MissingError]: connected, but a consumer lacks its queue. Sessions are handed out.
//   - An error that wraps [ErrClosed]: the Conn was closed, or ended by a failure that no retry can heal.
//   - Any other error: connecting. It is the last failure, such as a *[DialError] or the loss of the connection.
//
// See [Conn.Changed] to wait for the next error, and [Conn.Ready] to wait for nil.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err()
}

// Changed returns a channel that is closed when the result of [Conn.Err] may have changed. Get the channel before the error, so
// that no change is missed:
//
//	for {
//		changed := conn.Changed()
//		err := conn.Err()
//		…
//		if errors.Is(err, amqpkit.ErrClosed) {
//			return
//		}
//		<-changed
//	}
func (c *Conn) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Ready waits until [Conn.Err] is nil. If ctx ends first, the error wraps its cause and the result of Err. If the Conn is
// closed, the error wraps [ErrClosed].
func (c *Conn) Ready(ctx context.Context) error {
	return c.await(ctx, func() error { return c.err() })
}

// await waits until cond, called with c.mu held, returns nil.
func (c *Conn) await(ctx context.Context, cond func() error) error {
	for {
		c.mu.Lock()
		if c.ctx.Err() != nil {
			c.mu.Unlock()
			return context.Cause(c.ctx)
		}
		err := cond()
		changed := c.changed
		c.mu.Unlock()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if err == errNotUp { //nolint:errorlint // is itself
				return wrap("not ready", context.Cause(ctx))
			}
			return wrap("not ready", context.Cause(ctx), wrap("last failure", err))
		}
	}
}

// Blocked returns an error that wraps [amqperr.ErrBlocked] while the broker accepts no messages, with the broker's reason, such as "low on
// memory". Otherwise it returns nil. Publishers wait meanwhile; consumers are unaffected. RabbitMQ notifies only connections that
// publish.
func (c *Conn) Blocked() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.links {
		if l.blocked != nil {
			return l.blocked
		}
	}
	return nil
}

// Done is closed when the Conn is closed and has released everything.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close closes all connections of the Conn. Shut down consumers and producers first, so that their messages in flight are settled and
// confirmed. In another order no message is lost either, but publishes in flight return ErrUnconfirmed, and messages that were handled
// just before are redelivered.
//
// Close returns once everything is released, at the latest 250 ms after ctx ended, and waits at most 5 s for the broker. An error means
// that a Setup, Dialer or Credentials function ignores its ctx and is still running. Another Close waits for the same shutdown.
func (c *Conn) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.ctx.Err() == nil {
		c.closing = context.WithoutCancel(ctx)
		c.cancel(ErrClosed)
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	c.cut()
	cut := time.NewTimer(wire.Grace + 80*time.Millisecond) // the links are killed after Grace
	defer cut.Stop()
	select {
	case <-c.done:
		return nil
	case <-cut.C:
		return wrap("close", context.Cause(ctx))
	}
}

// Format writes the URLs without their passwords, and "ready" or the result of [Conn.Err], whatever the verb.
func (c *Conn) Format(s fmt.State, _ rune) {
	if c == nil {
		_, _ = fmt.Fprint(s, "amqpkit.Conn(nil)")
		return
	}
	state := "ready"
	if err := c.Err(); err != nil {
		state = err.Error()
	}
	_, _ = fmt.Fprintf(s, "amqpkit.Conn{%v, %s}", c.cfg, state)
}

// The helpers below are called with c.mu held.

// find returns the connection with a role, or nil.
func (c *Conn) find(r role) *link {
	for _, l := range c.links {
		if l.role == r {
			return l
		}
	}
	return nil
}

func (c *Conn) err() error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	var down error
	for _, l := range c.links {
		if err := l.down(); err != nil && (down == nil || down == errNotUp) { //nolint:errorlint // is itself
			down = err
		}
	}
	if down != nil {
		return down
	}
	return c.missingErr()
}

func (c *Conn) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

package amqpkit

import (
	"context"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// closeTimeout bounds Close for a ctx without a deadline: a blocked broker may never answer.
const closeTimeout = 5 * time.Second

// State is what a Conn is doing.
type State int

const (
	// Connecting means that a session is missing; [Conn.Err] says why, once an attempt has failed.
	Connecting State = iota
	// Ready means that every connection opened so far is up, Setup has run on it, and every consumer
	// has its queue.
	Ready
	// Closed means that Close was called, or a failure that cannot heal ended the Conn.
	Closed
	// Degraded means that everything is up, but the queue of a consumer is missing; [Conn.Err] names
	// it. Sessions are handed out as in Ready.
	Degraded
)

func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Ready:
		return "ready"
	case Closed:
		return "closed"
	case Degraded:
		return "degraded"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// A Conn keeps up to two connections to RabbitMQ alive, one for publishing and one for
// consuming, each replaced by a new session when it is lost. [Conn.DedicatedConnection] opens more. Its methods may be called from
// any goroutine.
type Conn struct {
	cfg     Config
	targets []target
	setup   setup

	ctx    context.Context // ends when the Conn is to end; its cause wraps ErrClosed
	cancel context.CancelCauseFunc
	cutCtx context.Context // ends when the links are to be cut instead of closed
	cut    context.CancelFunc
	links  sync.WaitGroup
	done   chan struct{}

	mu      sync.Mutex
	spare   *link // the connection that Dial and Open start, until someone needs it
	roles   [2]*link
	changed chan struct{} // closed and replaced on every change

	missing    []*missing // consumers without their queue
	restoring  bool       // restore is running
	restored   time.Time  // when the last repeated run of Setup began
	restoreErr error      // how it failed
}

type role int

const (
	publishing role = iota
	consuming
)

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

// DialConfig is [Dial] with a Config. It tries every URL once, in random order, over all addresses of its
// host, and returns a Conn that is ready, or the first refusal: that of the first broker that answered, if one
// did.
func DialConfig(ctx context.Context, cfg Config) (*Conn, error) {
	c, err := newConn(cfg)
	if err != nil {
		return nil, err
	}
	s, err := c.connectAny(ctx, false)
	if err != nil {
		c.cancel(ErrClosed)
		return nil, err
	}
	c.start(s)
	return c, nil
}

// Open returns at once and connects in the background, trying until it succeeds: see
// [Conn.Ready], [Conn.Err] and [Conn.State]. The error reports every wrong field of cfg.
func Open(cfg Config) (*Conn, error) {
	c, err := newConn(cfg)
	if err != nil {
		return nil, err
	}
	c.start(nil)
	return c, nil
}

func newConn(cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	targets, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	c := &Conn{
		cfg:     cfg,
		targets: targets,
		setup:   setup{running: make(chan struct{}, 1)},
		done:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.cutCtx, c.cut = context.WithCancel(context.Background())
	return c, nil
}

// start begins the Conn's life with its first connection, whose session s is if it is not nil.
func (c *Conn) start(s *session) {
	c.mu.Lock()
	c.spare = c.newLink(s)
	c.mu.Unlock()
	go func() {
		<-c.ctx.Done()
		c.mu.Lock() // after this no link is started any more
		c.notify()
		c.mu.Unlock()
		c.links.Wait()
		close(c.done)
	}()
}

// newLink starts a connection. c.mu is held.
func (c *Conn) newLink(s *session) *link {
	l := &link{conn: c}
	if s != nil {
		l.session = s.Connection
	}
	c.links.Go(func() { l.run(s) })
	c.notify() // with a connection to come the Conn is not ready
	return l
}

// Publishing returns the current session's connection for publishing, opening it when first
// asked; Setup has run on it. It waits for one until ctx ends. The connection belongs to the
// Conn: do not close it, and ask again when it was lost.
func (c *Conn) PublishConnection(ctx context.Context) (*amqp.Connection, error) {
	return c.session(ctx, publishing)
}

// Consuming is [Conn.PublishConnection] for the consuming connection.
func (c *Conn) ConsumeConnection(ctx context.Context) (*amqp.Connection, error) {
	return c.session(ctx, consuming)
}

// Channel opens a raw channel on the consuming connection, for what the other packages do not
// cover. It is the caller's to close, and dies with its session.
func (c *Conn) Channel(ctx context.Context) (*amqp.Channel, error) {
	ac, err := c.ConsumeConnection(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := wire.Channel(ctx, ac)
	if err != nil {
		if fix := wire.ChannelFix(err); fix != "" {
			return nil, fmt.Errorf("amqpkit: open a channel: %w; %s", err, fix)
		}
		return nil, fmt.Errorf("amqpkit: open a channel: %w", err)
	}
	return ch, nil
}

func (c *Conn) session(ctx context.Context, r role) (*amqp.Connection, error) {
	var ac *amqp.Connection
	err := c.await(ctx, func() (bool, error) {
		l := c.roles[r]
		if l == nil {
			if l = c.spare; l == nil {
				l = c.newLink(nil)
			}
			c.roles[r], c.spare = l, nil
		}
		ac = l.session
		return ac != nil && !ac.IsClosed(), l.err
	})
	if err != nil {
		return nil, err
	}
	return ac, nil
}

// Ready waits until every connection opened so far is up, Setup has run on it and every consumer has
// its queue. When ctx ends first, the error wraps its cause and what Err returns.
func (c *Conn) Ready(ctx context.Context) error {
	return c.await(ctx, func() (bool, error) { return c.state() == Ready, c.failure() })
}

// await waits until cond, called with c.mu held, is true. Until then cond returns the reason, if it has one.
func (c *Conn) await(ctx context.Context, cond func() (bool, error)) error {
	for {
		c.mu.Lock()
		if c.ctx.Err() != nil {
			c.mu.Unlock()
			return context.Cause(c.ctx)
		}
		ok, failure := cond()
		changed := c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if failure != nil {
				return fmt.Errorf("amqpkit: not ready: %w; last failure: %w", context.Cause(ctx), failure)
			}
			return fmt.Errorf("amqpkit: not ready: %w", context.Cause(ctx))
		}
	}
}

// State returns what the Conn is doing now.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state()
}

// WaitForStateChange waits until the state is another one than from, and returns true, or
// until ctx ends, and returns false. A loop observes a Conn:
//
//	for s := conn.State(); s != amqpkit.Closed && conn.WaitForStateChange(ctx, s); {
//		s = conn.State()
//		…
//	}
func (c *Conn) WaitForStateChange(ctx context.Context, from State) bool {
	for {
		c.mu.Lock()
		now, changed := c.state(), c.changed
		c.mu.Unlock()
		if now != from {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// Err returns why the Conn is not ready: the last failure while it is connecting, if an attempt
// has failed yet; a *[MissingError] while it is degraded; or why it ended (which wraps ErrClosed). It is
// nil while the Conn is ready.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return c.failure()
}

// Blocked returns nil, or an error that wraps [amqperr.ErrBlocked] and tells the broker's reason, such
// as "low on memory", while it takes no messages. Publishers wait meanwhile; consumers are not
// concerned. RabbitMQ tells a connection only when it tries to publish.
func (c *Conn) Blocked() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.opened() {
		if l.blocked != nil {
			return l.blocked
		}
	}
	return nil
}

// Done is closed when the Conn has ended and released everything.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close closes both connections and ends the Conn. End consumers and producers first: what
// they have in flight is then settled and confirmed. Otherwise nothing is lost either, but
// what was in flight ends as ErrUnconfirmed, and messages come back that were just handled.
//
// Close returns once everything is released, or 250 ms after ctx ended, when the sockets are
// cut; it gives the broker 5 s at most. An error means that something is still held, by a
// Setup, Dialer or Credentials that ignores its ctx. Closing again waits for the same end.
func (c *Conn) Close(ctx context.Context) error {
	c.cancel(ErrClosed)
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
		return fmt.Errorf("amqpkit: close: %w", context.Cause(ctx))
	}
}

// Format writes the URLs without their passwords and the state, whatever the verb.
func (c *Conn) Format(s fmt.State, _ rune) {
	if c == nil {
		_, _ = fmt.Fprint(s, "amqpkit.Conn(nil)")
		return
	}
	_, _ = fmt.Fprintf(s, "amqpkit.Conn{%v, %v}", c.cfg, c.State())
}

// The helpers below are called with c.mu held.

func (c *Conn) opened() []*link {
	var ls []*link
	for _, l := range [...]*link{c.spare, c.roles[publishing], c.roles[consuming]} {
		if l != nil {
			ls = append(ls, l)
		}
	}
	return ls
}

func (c *Conn) state() State {
	if c.ctx.Err() != nil {
		return Closed
	}
	for _, l := range c.opened() {
		if l.session == nil || l.session.IsClosed() {
			return Connecting
		}
	}
	if c.missingErr() != nil {
		return Degraded
	}
	return Ready
}

func (c *Conn) failure() error {
	for _, l := range c.opened() {
		if l.err != nil {
			return l.err
		}
	}
	return c.missingErr()
}

func (c *Conn) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

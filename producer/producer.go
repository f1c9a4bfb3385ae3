package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	closeTimeout = 5 * time.Second  // of closing the channel
	callTimeout  = 10 * time.Second // of other requests
)

// Connection provides the current session; *amqpkit.Conn implements it. Two methods are optional. Err() error returns
// the last failure to connect, which is added to the errors of messages that cannot be sent. Logger() *slog.Logger
// returns the default of Config.Logger. On a connection that amqpkit did not dial, the outcome of a message is
// reported only after the outcomes of older messages.
type Connection interface {
	// PublishConnection waits for a session until ctx ends. With a cancelled ctx it returns the current session or an
	// error at once. An error before the end of ctx means that there will never be a session again. The Producer opens
	// channels on the connection and does not close it.
	PublishConnection(ctx context.Context) (*amqp.Connection, error)
}

// A Producer publishes over one channel in confirm mode at a time. Its methods may be called
// from any goroutine. The messages of one goroutine are sent in the order of its calls.
//
// A message's Body and Headers must not be changed until its outcome is known. After ErrUnconfirmed they must never be
// changed, because they may still be in use.
type Producer struct {
	conn   Connection
	cfg    Config
	ids    *ids
	window *window

	maxSize atomic.Int64 // bytes of a body; less than Config.MaxMessageSize once the broker said so

	ctx    context.Context // cancelled to stop run, even if messages are in flight
	stop   context.CancelFunc
	cutCtx context.Context // cancelled to kill the link if run does not stop
	cut    context.CancelFunc
	ended  chan struct{} // closed when run returns

	logTotals sync.Once
	warnings  logs.Limiter
	opening   opening                                 // run's
	refusals  refusals                                // run's, of
	last      *amqp.Connection                        // this connection
	unchecked bool                                    // run's: it must not open a channel to ask
	abandoned struct{ unconfirmed, notPublished int } // by run, valid once ended is closed
}

// New returns a Producer. It opens its channel when the first message is published.
func New(conn Connection, cfg Config) (*Producer, error) {
	if conn == nil {
		return nil, fault("conn", "is nil", "pass an *amqpkit.Conn")
	}
	cfg = cfg.withDefaults()
	cfg.Logger = logs.For(cfg.Logger, conn)
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Producer{conn: conn, cfg: cfg, ids: newIDs(), window: newWindow(cfg), ended: make(chan struct{})}
	p.maxSize.Store(int64(cfg.MaxMessageSize))
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.cutCtx, p.cut = context.WithCancel(context.Background())
	go p.run()
	return p, nil
}

// Publish publishes msg to exchange with the routing key and waits for its outcome: nil if it was routed to a queue
// and confirmed; otherwise *[ReturnedError], or an error that wraps [ErrNacked], [ErrNotPublished] or [ErrUnconfirmed]
// and the cause. The empty exchange is the default exchange, whose routing key is the name of a queue.
//
// ctx bounds the whole call, including the time without a connection and further attempts.
//
// Headers are sent as types that clients in other languages can read: int, uint and uint64 as int64, and int8,
// uint8 and int16 as int32. Values that are invalid or break other clients are refused with *[amqperr.FieldError], for
// example a number that does not fit into int64, a time outside of the years 1970 to 9999, or a property that is not
// UTF-8. Python's clients read a negative int64 as unsigned; an int32 is safe.
func (p *Producer) Publish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	return p.publish(&Receipt{msg: Message{exchange, key, msg}, ctx: ctx})
}

// PublishJSON publishes v, encoded as JSON, with the content type application/json. It returns the same outcomes as Publish.
// If v cannot be encoded, the error wraps [ErrNotPublished], *[amqperr.FieldError] and the error of encoding/json.
func (p *Producer) PublishJSON(ctx context.Context, exchange, key string, v any) error {
	r := &Receipt{msg: Message{Exchange: exchange, Key: key}, ctx: ctx}
	body, err := json.Marshal(v)
	if err != nil {
		p.window.countRefused()
		return r.describe(ErrNotPublished, fmt.Errorf("%w: %w", fault("Body", "cannot be encoded as JSON", ""), err))
	}
	r.msg.Publishing = amqp.Publishing{ContentType: "application/json", Body: body}
	return p.publish(r)
}

// PublishAsync accepts msg and returns without waiting for its outcome, which the Receipt reports. It waits while
// the window is full. If the message is not accepted, the error wraps [ErrNotPublished].
//
// ctx bounds the message until its outcome, as with Publish. If ctx ends first, the Receipt reports it.
func (p *Producer) PublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (*Receipt, error) {
	return p.publishAsync(&Receipt{msg: Message{exchange, key, msg}, ctx: ctx})
}

// Republish publishes a message that was received from RabbitMQ, for example to move it to another queue. It returns the
// same outcomes as Publish, with these differences:
//
//   - The message is always mandatory. With Config.AllowUnroutable too, an unroutable message is returned, so that the
//     original can be kept.
//   - The message is sent as it was received. DeliveryMode 0 stays 0, and every header that amqp091-go can read is
//     accepted, up to the frame size of the connection: tables nested 32 deep, 8,192 entries in each, names that are
//     not UTF-8. Only a missing message id is added.
//
// Messages that no consumer can have received are refused with *[amqperr.FieldError], as by Publish. RabbitMQ can store
// a few values in a classic or quorum queue but not in a stream: an amqp.Decimal, a reply-to that is not UTF-8, and an
// x-stream-filter-value that is not a short UTF-8 string. Do not republish them to a stream.
func (p *Producer) Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	return p.publish(&Receipt{msg: Message{exchange, key, msg}, ctx: ctx, received: true})
}

// RepublishAsync is Republish without waiting for the outcome, as PublishAsync is Publish.
func (p *Producer) RepublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (*Receipt, error) {
	return p.publishAsync(&Receipt{msg: Message{exchange, key, msg}, ctx: ctx, received: true})
}

func (p *Producer) publish(r *Receipt) error {
	if err := p.accept(r); err != nil {
		return err
	}
	p.window.submit(r, false)
	return p.await(r)
}

func (p *Producer) publishAsync(r *Receipt) (*Receipt, error) {
	if err := p.accept(r); err != nil {
		return nil, err
	}
	p.window.submit(r, true)
	if admitted := p.window.admitted(r); admitted != nil {
		<-admitted // at the latest when ctx ends
	}
	select {
	case <-r.done:
		if errors.Is(r.err, ErrNotPublished) {
			return nil, r.err
		}
	default:
	}
	return r, nil
}

// PublishAll publishes msgs in their order and waits for all outcomes. It returns one for each message, as Publish
// does.
func (p *Producer) PublishAll(ctx context.Context, msgs []Message) []error {
	errs := make([]error, len(msgs))
	receipts := make([]*Receipt, len(msgs))
	for i, m := range msgs {
		r := &Receipt{msg: m, ctx: ctx}
		if err := p.accept(r); err != nil {
			errs[i] = err
			continue
		}
		receipts[i] = r
		p.window.submit(r, false)
	}
	for i, r := range receipts {
		if r != nil {
			errs[i] = p.await(r)
		}
	}
	return errs
}

// accept prepares a message, or returns why it is refused.
func (p *Producer) accept(r *Receipt) error {
	r.window, r.done = p.window, make(chan struct{})
	err := p.prepare(r)
	switch {
	case err != nil:
	case r.ctx.Err() != nil:
		err = context.Cause(r.ctx)
	case p.cfg.FailFast:
		err = p.cause()
	}
	if err != nil {
		p.window.countRefused()
		return r.describe(ErrNotPublished, err)
	}
	return nil
}

func (p *Producer) await(r *Receipt) error {
	select {
	case <-r.done:
	case <-r.ctx.Done():
		p.window.cancel(r)
		<-r.done
	}
	return r.err
}

// Err returns nil if messages can be sent now. Otherwise it returns the reason: there is no connection, the broker
// blocks publishing (amqperr.ErrBlocked), no channel can be opened, or the Producer is closed (ErrClosed). It does not block.
// The first call makes the Connection open its publishing connection, as the first message does.
func (p *Producer) Err() error {
	if err := p.cause(); err != nil {
		return fmt.Errorf("%w: %w", errNotReady, validate.Unprefixed(err))
	}
	return nil
}

// cause returns why no message can be sent, or nil.
func (p *Producer) cause() error {
	if err := p.window.err(); err != nil {
		return err
	}
	ac, err := p.session()
	if err != nil {
		return err
	}
	return wire.GateOf(ac).Err()
}

// atOnce is a cancelled ctx: PublishConnection does not wait for a session.
var atOnce = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errNoSession)
	return ctx
}()

// Ready opens the connection and the channel, and waits until a message can be sent: the broker does not block
// publishing, and messages published before it have been sent. If ctx ends first, the error wraps its cause and the reason.
func (p *Producer) Ready(ctx context.Context) error {
	r := &Receipt{ctx: ctx, probe: true, window: p.window, done: make(chan struct{})}
	p.window.submit(r, false)
	return p.await(r)
}

// about returns the attributes of a log line about ac.
func (p *Producer) about(ac *amqp.Connection, err error) []slog.Attr {
	name, _ := ac.Config.Properties["connection_name"].(string)
	return []slog.Attr{slog.String("role", "publishing"), slog.String("connection", name), slog.Any("error", err)}
}

// Logger returns the Logger of the Producer, which is the default of packages that use it.
func (p *Producer) Logger() *slog.Logger { return p.cfg.Logger }

// Close refuses further messages, waits until all messages in flight have their outcomes or ctx ends, and closes the
// channel. The remaining messages get ErrUnconfirmed or ErrNotPublished as their outcome, and Close returns an error
// with their number. It returns at most 250 ms after the end of ctx. If ctx never ends, Close waits as long as the
// broker is unreachable.
func (p *Producer) Close(ctx context.Context) error {
	err := p.close(ctx)
	p.logTotals.Do(func() { p.window.total().log(ctx, p.cfg.Logger) })
	return err
}

func (p *Producer) close(ctx context.Context) error {
	p.window.close(ErrClosed)
	select {
	case <-p.window.idle:
	case <-p.ended:
	case <-ctx.Done():
	}
	p.stop()
	bound, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	select {
	case <-p.ended:
	case <-bound.Done():
	}
	p.cut()
	<-p.ended
	cause := context.Cause(ctx)
	if cause == nil { // the Connection was closed for good
		cause = ErrClosed
	}
	kind, n := ErrUnconfirmed, p.abandoned
	switch {
	case n.unconfirmed == 0 && n.notPublished == 0:
		return nil
	case n.unconfirmed == 0:
		kind = ErrNotPublished
	}
	return fmt.Errorf("%w: closed with %d messages unconfirmed and %d not sent: %w", kind, n.unconfirmed, n.notPublished, validate.Unprefixed(cause))
}

// run sends the messages in the window over one session after another, until the Producer or its
// Connection is closed. It is the only goroutine that lives as long as the Producer.
func (p *Producer) run() {
	defer close(p.ended)
	cause := p.sessions()
	p.abandoned.unconfirmed, p.abandoned.notPublished = p.window.abandon(cause)
}

func (p *Producer) sessions() (cause error) {
	for {
		for p.window.head() == nil { // so that a session is asked for only when it is needed
			p.window.setObstacle(nil) // with FailFast, the next message starts another attempt
			select {
			case <-p.window.wake:
			case <-p.ctx.Done():
				return ErrClosed
			}
		}
		ac, err := p.conn.PublishConnection(atOnce)
		if err != nil {
			p.window.setObstacle(p.noSession)
			ac, err = p.conn.PublishConnection(p.ctx)
			p.window.setObstacle(nil)
		}
		switch {
		case p.ctx.Err() != nil:
			return ErrClosed
		case err != nil:
			return closedFor(err)
		}
		if err := p.serve(ac); err != nil {
			p.pause(ac, err)
		}
	}
}

// session returns the current session, or at once the error of messages that cannot be sent without one. The error
// includes the last failure if the Connection has a method Err.
func (p *Producer) session() (*amqp.Connection, error) {
	ac, err := p.conn.PublishConnection(atOnce)
	switch {
	case err == nil:
		return ac, nil
	case !errors.Is(err, errNoSession) && !errors.Is(err, context.Canceled):
		return nil, closedFor(err)
	}
	if c, ok := p.conn.(interface{ Err() error }); ok {
		if err := c.Err(); err != nil {
			return nil, fmt.Errorf("%w; last failure: %w", errNoSession, validate.Unprefixed(err))
		}
	}
	return nil, errNoSession
}

// noSession returns why there is no session. It is nil as soon as there is one, before run has received it.
func (p *Producer) noSession() error {
	_, err := p.session()
	return err
}

// closedFor returns the error of messages after the Connection was closed for good.
func closedFor(err error) error { return fmt.Errorf("%w: %w", ErrClosed, validate.Unprefixed(err)) }

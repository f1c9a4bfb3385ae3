package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	closeTimeout = 5 * time.Second  // for the broker to close the channel
	callTimeout  = 10 * time.Second // for any other answer of it
)

// Connection is where a Producer gets the current session from; *amqpkit.Conn is one. If it has a method
// Err() error, the error completes those of messages that find no session; if it has a method
// Logger() *slog.Logger, it is the default of Config.Logger.
type Connection interface {
	// PublishConnection waits for a session until ctx ends. If ctx has ended already, it returns the session if there is
	// one. Any other error means that there will never be a session again. The connection belongs to the Connection: the
	// Producer opens a channel on it.
	PublishConnection(ctx context.Context) (*amqp.Connection, error)
}

// A Producer publishes over one channel in confirm mode at a time. Its methods may be called
// from any goroutine; messages published one after the other by one goroutine are sent in
// that order.
//
// A message's Body and Headers must not be changed until its outcome is known, and after
// ErrUnconfirmed not at all, since they may still be being sent.
type Producer struct {
	conn   Connection
	cfg    Config
	ids    *ids
	window *window

	maxSize atomic.Int64 // bytes of a body; less than Config.MaxMessageSize once the broker said so

	ctx    context.Context // ends when run is to stop, whatever is in flight
	stop   context.CancelFunc
	cutCtx context.Context // ends when the link is to be killed if run has not stopped
	cut    context.CancelFunc
	ended  chan struct{} // closed when run has returned

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

// Publish publishes msg to exchange with the routing key and waits for its outcome: nil when
// it was routed to a queue and confirmed; else *[ReturnedError], or an error that wraps
// [ErrNacked], [ErrNotPublished] or [ErrUnconfirmed] and the cause. The empty exchange is the
// default exchange, whose routing key is the name of a queue.
//
// ctx bounds all of it, waiting for a connection and sending again included.
//
// Headers are sent in a form that the clients of other languages can read: int, uint and uint64 as
// int64, and int8, uint8 and int16 as int32. A value that cannot be sent, or that breaks other clients, is refused
// with *[amqperr.FieldError], for example a number that does not fit into int64, a time outside of the years 1970 to
// 9999, or a property that is not UTF-8. Python's clients read a negative int64 as unsigned; an int32 is safe.
func (p *Producer) Publish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	return p.publish(&Receipt{msg: Message{exchange, key, msg}, ctx: ctx})
}

// PublishJSON publishes v, encoded as JSON, with the content type application/json. Its outcomes are those of Publish.
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

// PublishAsync hands msg over and returns without waiting for its outcome, which the Receipt
// tells. It waits while the window is full. The error is of a message that was not accepted,
// and wraps [ErrNotPublished].
//
// ctx bounds the message's whole life, as with Publish: when it ends, the Receipt resolves.
func (p *Producer) PublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (*Receipt, error) {
	return p.publishAsync(&Receipt{msg: Message{exchange, key, msg}, ctx: ctx})
}

// Republish publishes a message again that was received from RabbitMQ, for example to move it to
// another queue. Its outcomes are those of Publish, with these differences:
//
//   - The message is always mandatory: with Config.AllowUnroutable too, an unroutable message is
//     returned, so that the original can be kept.
//   - It is sent as it was received. DeliveryMode 0 stays 0, and every header that amqp091-go can
//     read is accepted, up to the frame size of the connection: tables nested 32 deep, 8,192 entries
//     in each, names that are not UTF-8. Only a missing message id is added.
//
// Messages that no consumer can have received are refused with *[amqperr.FieldError], as by Publish. RabbitMQ can
// store a few values in a classic or quorum queue but not in a stream: an amqp.Decimal, a reply-to
// that is not UTF-8, and an x-stream-filter-value that is not a short UTF-8 string. Do not
// republish them to a stream.
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

// PublishAll publishes msgs in their order and waits for all outcomes: one for each message,
// as Publish returns them.
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

// accept prepares a message, or returns why it may not be sent.
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
func (p *Producer) Err() error {
	if err := p.cause(); err != nil {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	return nil
}

// cause returns why no message can be sent, or nil.
func (p *Producer) cause() error {
	if err := p.window.err(); err != nil {
		return err
	}
	ac, err := p.conn.PublishConnection(atOnce)
	switch {
	case errors.Is(err, context.Canceled): // instead of the cause of the end of ctx
		return p.noSession()
	case err != nil:
		return err
	}
	return wire.GateOf(ac).Err()
}

// atOnce is a ctx that has ended. PublishConnection then returns a session only if there is one.
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

// Close takes no more messages, waits until everything in flight has its outcome or ctx ends,
// and ends the Producer. Messages that are then left end with ErrUnconfirmed or
// ErrNotPublished, and Close returns an error that counts them. It returns at the latest
// 250 ms after ctx ended; without an end of ctx it waits for a broker that is away.
func (p *Producer) Close(ctx context.Context) error {
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
	if cause == nil { // the connection had ended for good
		cause = ErrClosed
	}
	kind, n := ErrUnconfirmed, p.abandoned
	switch {
	case n.unconfirmed == 0 && n.notPublished == 0:
		return nil
	case n.unconfirmed == 0:
		kind = ErrNotPublished
	}
	return fmt.Errorf("%w: closed with %d messages unconfirmed and %d not sent: %w", kind, n.unconfirmed, n.notPublished, cause)
}

// run sends what is in the window, one session after another, until the Producer or its
// connection ends. It is the only goroutine that lives as long as the Producer.
func (p *Producer) run() {
	defer close(p.ended)
	cause := p.sessions()
	p.abandoned.unconfirmed, p.abandoned.notPublished = p.window.abandon(cause)
	p.window.total().log(p.ctx, p.cfg.Logger)
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
			return fmt.Errorf("%w: %w", ErrClosed, err)
		}
		if err := p.serve(ac); err != nil {
			p.pause(ac, err)
		}
	}
}

// noSession is the reason why nothing is sent while there is no connection, with its last failure if
// the Connection has a method Err, as *amqpkit.Conn does.
func (p *Producer) noSession() error {
	if c, ok := p.conn.(interface{ Err() error }); ok {
		if err := c.Err(); err != nil {
			return fmt.Errorf("%w, last failure: %w", errNoSession, err)
		}
	}
	return errNoSession
}

package consumer

import (
	"context"
	"errors"
	"log/slog"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/logs"
)

// A Consumer runs a handler over a queue. Make one with New. Its methods may be called from
// any goroutine.
type Consumer struct {
	conn    Connection
	cfg     Config
	handler Handler
	log     *slog.Logger
	status  *status

	failures failures // belongs to Run's goroutine
}

// New returns a Consumer that runs h over cfg.Queue. It does not use the connection yet. Its
// error joins a *amqperr.FieldError for each wrong field.
func New(conn Connection, cfg Config, h Handler) (*Consumer, error) {
	cfg = cfg.withDefaults()
	cfg.Logger = logs.For(cfg.Logger, conn)
	err := cfg.validate()
	if conn == nil {
		err = errors.Join(err, &amqperr.FieldError{Package: "consumer", Field: "conn", Problem: "is nil", Fix: "pass an *amqpkit.Conn"})
	}
	if h == nil {
		err = errors.Join(err, &amqperr.FieldError{Package: "consumer", Field: "handler", Problem: "is nil", Fix: "pass a function"})
	}
	if err != nil {
		return nil, err
	}
	return &Consumer{
		conn:     conn,
		cfg:      cfg,
		handler:  chain(h, cfg.Middleware),
		log:      cfg.Logger.With("queue", cfg.Queue),
		status:   newStatus(),
		failures: failures{},
	}, nil
}

// Run consumes until ctx ends, through every loss of the connection, the channel or the
// queue. Then it stops taking deliveries, gives back those whose handler has not begun, lets
// the running handlers finish within Config.DrainTimeout, settles them and returns. Where order matters
// it finishes what it received instead, see Config.SingleActiveConsumer. What that came
// to is logged in one line. Deliveries of other consumers on the same connection are not
// disturbed, unless the broker does not answer: after five seconds, or two more than DrainTimeout if
// that is longer, the connection is cut.
//
// The result is nil if all that the last subscription's handlers finished was settled and the
// broker took it: none of it comes again. It is a *DrainError if handlers took longer than
// Drain, or if the subscription was lost and settlements may have been lost with it.
//
// It wraps ErrNotSubscribed and the last failure if ctx ended before Run was ever subscribed and an attempt had failed.
//
// Any other result means that consuming could not go on: the error of the connection if that
// ended for good, a *SubscribeError if Config.Backoff gave up or if the cause says of itself
// that it can never heal; then too the handlers were let finish. A second Run while one is
// running returns ErrRunning; a Consumer may run again afterwards.
//
// Run returns with no goroutine left behind, save handlers that ignore the end of their ctx.
// In a program end Run first, then close producers, then the connection.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.status.start() {
		return ErrRunning
	}
	r := &run{
		runState:   runState{cfg: c.cfg, log: c.log, failures: c.failures},
		subscriber: subscriber{connector{conn: c.conn}},
		status:     c.status,
	}
	err := r.run(ctx, c.handler)
	c.status.set(ended, err)
	return err
}

// Ready waits until Run is subscribed: from then on the queue's messages are delivered. If ctx ends first, or Run returns
// without a subscription, the error wraps ErrNotSubscribed, the cause and the last failure. After a Run that was
// subscribed, Ready waits for the next Run.
func (c *Consumer) Ready(ctx context.Context) error { return c.status.ready(ctx) }

// Err returns nil while Run is subscribed, otherwise the reason. It returns at once. The reason is the last *SubscribeError
// or *LostError while Run subscribes again. It wraps ErrNotSubscribed before the first Run, before the first
// attempt of a Run has succeeded or failed, and, together with Run's error, after Run has returned. A *PoisonError stays
// until a subscription has passed the message.
func (c *Consumer) Err() error { return c.status.current() }

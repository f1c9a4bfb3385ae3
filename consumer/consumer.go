package consumer

import (
	"context"
	"errors"
	"log/slog"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/logs"
)

// A Consumer runs a handler for each message of a queue. Create one with New. Its methods may be called from any
// goroutine.
type Consumer struct {
	conn    Connection
	cfg     Config
	handler Handler
	log     *slog.Logger
	status  *status

	failures failures // accessed only by Run's goroutine
}

// New returns a Consumer that runs h for the messages of cfg.Queue. It does not use the connection yet. Its error
// joins a *amqperr.FieldError for each invalid field.
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

// Run consumes until ctx ends, through every loss of the connection, the channel or the queue. Then it cancels the
// consumer, requeues deliveries whose handlers have not started, waits up to Config.DrainTimeout for the running
// handlers, settles their deliveries, logs the totals in one line and returns. An ordered shutdown finishes received
// messages instead, see Config.SingleActiveConsumer. Other consumers on the same connection are not disturbed, unless
// the broker does not answer: the connection is closed five seconds after ctx ended, or two seconds after
// DrainTimeout if that is later.
//
// Run returns nil if the broker has accepted the settlements of all messages that the last subscription's handlers
// finished: none of them is redelivered. It returns a *DrainError if handlers took longer than Config.DrainTimeout,
// or if the subscription was lost and settlements may have been lost with it.
//
// Run returns an error that wraps ErrNotSubscribed and the last failure if ctx ended before the first subscription
// and an attempt had failed.
//
// Any other error means that consuming cannot continue: the error of the connection if it was closed permanently, or
// a *SubscribeError if Config.Backoff gave up or the cause is permanent (amqperr.IsPermanent). The handlers finish in
// that case, too. A second Run while one is running returns ErrRunning. After Run has returned it may be called
// again.
//
// Run leaves no goroutine behind except handlers that ignore the end of their ctx. To shut a program down, end Run
// first, then close producers, then the connection.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.status.start() {
		return ErrRunning
	}
	r := &run{
		runState:   runState{cfg: c.cfg, log: c.log, failures: c.failures},
		subscriber: subscriber{connector{conn: c.conn}},
		status:     c.status,
		warned:     map[string]string{},
	}
	err := r.run(ctx, c.handler)
	c.status.set(returned, err)
	return err
}

// Ready waits until Run is subscribed, so that RabbitMQ delivers messages. If ctx ends first, or Run returns without
// a subscription, the error wraps ErrNotSubscribed, the cause and the last failure. After a Run that was subscribed,
// Ready waits for the next Run, except that it returns at once if Run returned because the connection was closed
// permanently.
func (c *Consumer) Ready(ctx context.Context) error { return c.status.ready(ctx) }

// Err returns nil while Run is subscribed, otherwise the reason. It does not block. While Run subscribes again, the
// reason is the last *SubscribeError or *LostError. It wraps ErrNotSubscribed before the first Run, before the first
// attempt of a Run has succeeded or failed, and, together with Run's error, after Run has returned. A *PoisonError
// stays until a subscription has proceeded past the message.
func (c *Consumer) Err() error { return c.status.current() }

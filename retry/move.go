package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// The time for which the consumer holds a message before it requeues it.
const (
	firstHold   = time.Second
	lastHold    = 30 * time.Second
	countedHold = 15 * time.Minute // if RabbitMQ counts requeues; half of the default consumer timeout
)

// A MoveError is the middleware's result for a message that could not be moved to its wait queue or its parking queue. The message
// is not lost: the consumer holds it for 1 to 30 s and requeues it.
//
// If RabbitMQ refuses the move, because the queue is missing or full, the message is requeued at the tail of its source queue instead:
// as a copy with the pending move in its headers. Whichever process receives it repeats the move, at growing intervals, and
// calls no handler before the delay has elapsed. The handler's attempt is not repeated, the message does not block others, and it
// does not come nearer to its delivery limit.
//
// If RabbitMQ does not answer a move, or refuses both, there is a MoveError, and the attempt is repeated after the
// redelivery, with the same [Attempt]. RabbitMQ before 4.3 counts each such redelivery against the queue's delivery limit. There
// the consumer holds the message for up to 15 minutes, so that it reaches the default limit of 20 after four hours.
type MoveError struct {
	Queue string // the target
	Err   error  // from the Publisher

	hold time.Duration
}

func (e *MoveError) Error() string {
	return fmt.Sprintf("retry: message not moved to queue %s and requeued: %v", validate.Quote(e.Queue), e.Err)
}

// Unwrap returns the consumer.Requeue on which the consumer acts, and the cause.
func (e *MoveError) Unwrap() []error { return []error{consumer.Requeue(e.hold), e.Err} }

// A mover moves messages to other queues.
type mover struct {
	*Plan
	to       Publisher
	log      *slog.Logger
	warnings logs.Limiter // about moves that failed
}

// A move is the way of a message to another queue.
type move struct {
	queue    string
	record   history.Record
	reason   string    // for parking
	until    time.Time // the end of the wait
	repeated bool      // the headers of the delivery contain the move already
}

// parking returns the move to the parking queue.
func (m *message) parking(reason string) move {
	return move{queue: m.ParkingQueue(), record: m.record, reason: reason}
}

// waiting returns the move to a wait queue.
func (m *message) waiting(d decision, now time.Time) move {
	to := move{queue: history.WaitQueue(m.cfg.Queue, d.tier), record: m.record, until: now.Add(d.delay)}
	to.record.Due = d.due
	return to
}

// move publishes the message to another queue. It returns nil if RabbitMQ has confirmed the copy, so that the original may be
// acknowledged.
func (m *message) move(ctx context.Context, to move) error {
	if m.d.Stale() { // it is redelivered: a copy would be a duplicate
		m.logAt(ctx, slog.LevelInfo, "retry: message not moved, it will be redelivered", slog.String("to", to.queue))
		return consumer.ErrStaleDelivery
	}
	err := m.publish(ctx, to)
	if err == nil {
		m.warnings.Reset(to.queue)
		m.logMove(ctx, to)
		return nil
	}
	var invalid *amqperr.FieldError
	if errors.As(err, &invalid) && m.parksRejected() {
		m.logAt(ctx, slog.LevelError, "retry: message cannot be moved, it is rejected to the dead-letter exchange", slog.String("to", to.queue), slog.Any("cause", err))
		return consumer.Reject(err)
	}
	// A repeated move is first held by the consumer and requeued at the head, then published to the tail: so it is tried at intervals,
	// and does not block other messages.
	held := to.repeated && !m.d.Redelivered
	if !held && refused(err) && m.publish(ctx, m.tail(to)) == nil {
		m.warn(ctx, to, "retry: message not moved, requeued at the tail of its queue", err)
		return nil
	}
	m.warn(ctx, to, "retry: message not moved, requeued", err)
	return &MoveError{Queue: to.queue, Err: err, hold: m.hold()}
}

// tail returns the move to the tail of the message's own queue, with the pending move in the headers.
func (m *message) tail(to move) move {
	if to.record.Due.IsZero() {
		to.record.Due = to.until
	}
	to.record.Park, to.reason, to.queue = to.reason, "", m.d.Queue
	return to
}

// refused reports whether RabbitMQ certainly did not accept the message. After an unanswered move, another copy would be a
// duplicate.
func refused(err error) bool {
	var unknown interface{ MaybeDelivered() bool }
	return !(errors.As(err, &unknown) && unknown.MaybeDelivered()) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// hold returns how long the consumer holds the message before it requeues it: the time since the failure within limits, longer if
// RabbitMQ counts the requeue against the delivery limit. Since 4.3 it counts requeues separately, in x-acquired-count.
func (m *message) hold() time.Duration {
	if !m.d.Redelivered {
		return min(max(time.Since(m.record.Last), firstHold), lastHold)
	}
	hold := lastHold
	n, _ := m.d.Headers["x-delivery-count"].(int64)
	if _, separate := m.d.Headers["x-acquired-count"]; !separate {
		for ; n > 1 && hold < countedHold; n-- {
			hold *= 2
		}
	}
	return min(hold, countedHold)
}

// publish publishes the copy within Config.MoveTimeout. A deadline of ctx that has passed comes from a consumer.Timeout around
// the middleware and does not prevent the move. The end of the drain time does.
func (m *message) publish(ctx context.Context, to move) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.cfg.MoveTimeout, fmt.Errorf("not confirmed by queue %s within %v: %w",
		validate.Quote(to.queue), m.cfg.MoveTimeout, context.DeadlineExceeded))
	defer cancel()
	own := to.record.Headers()
	own[history.HeaderQueue], own[history.HeaderHost], own[history.HeaderConsumer] = m.d.Queue, m.host, m.d.ConsumerTag
	if to.reason != "" {
		own[history.HeaderReason] = to.reason
	}
	msg := history.Publishing(&m.d.Delivery)
	msg.MessageId = m.messageID()
	c := history.NewCopy(msg, own)
	err := c.Republish(ctx, m.to, "", to.queue)
	if err == nil {
		c.Log(ctx, m.log.With("queue", m.d.Queue, "to", to.queue), "retry: message changed by its move")
	}
	return err
}

// logMove logs a confirmed move.
func (m *message) logMove(ctx context.Context, to move) {
	switch {
	case to.reason != "":
		m.logAt(ctx, slog.LevelWarn, "retry: message parked", slog.String("to", to.queue), slog.String("reason", to.reason))
	case to.repeated:
		m.logAt(ctx, slog.LevelDebug, "retry: message waits", slog.String("to", to.queue), slog.Duration("delay", time.Until(to.until)))
	default:
		m.logAt(ctx, slog.LevelInfo, "retry: message failed, it waits", slog.String("to", to.queue), slog.Duration("delay", time.Until(to.until).Round(time.Millisecond)))
	}
}

// warn logs a move that failed, at most once a minute for each target.
func (m *message) warn(ctx context.Context, to move, text string, cause error) {
	m.warnings.Warn(ctx, m.log, to.queue, text, append(m.attrs(), slog.String("to", to.queue), slog.Any("cause", cause))...)
}

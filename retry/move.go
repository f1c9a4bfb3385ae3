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
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const ( // for which the consumer holds a message before it requeues it
	firstHold   = time.Second
	lastHold    = 30 * time.Second
	countedHold = 15 * time.Minute // if RabbitMQ counts requeues; half of the default consumer timeout
)

// A MoveError is the middleware's result for a message that could not be moved to its wait queue or its parking queue. The message
// is not lost: the consumer holds it for 1 to 30 s and requeues it. An attempt is repeated after such a redelivery, with the same
// [Attempt].
//
// If RabbitMQ refuses the move, because the queue is missing or full, the message is requeued at the tail of its source queue instead,
// as a copy with the pending move in its headers. Whichever process receives it repeats the move, at growing intervals, and
// calls no handler before the delay has elapsed. A MoveError means that RabbitMQ does not answer, or refuses both.
//
// RabbitMQ before 4.3 counts requeued messages against the delivery limit. There the consumer holds them for up to 15 minutes, so
// that a message reaches the default limit of 20 only after four hours.
type MoveError struct {
	Queue string // the target
	Err   error  // from the Publisher

	hold time.Duration
}

func (e *MoveError) Error() string {
	return fmt.Sprintf("retry: message not moved to queue %s and requeued: %v", validate.Quote(e.Queue), validate.Unprefixed(e.Err))
}

// Unwrap returns the consumer.Requeue on which the consumer acts, and the cause.
func (e *MoveError) Unwrap() []error { return []error{consumer.Requeue(e.hold), e.Err} }

// move publishes the message to another queue. It returns nil if RabbitMQ has confirmed the copy, so that the original may be
// acknowledged.
func (m *message) move(ctx context.Context, s step) error {
	if m.d.Stale() { // it is redelivered: a copy would be a duplicate
		m.logAt(ctx, slog.LevelInfo, "retry: message not moved, it will be redelivered", slog.String("to", s.queue))
		return consumer.ErrStaleDelivery
	}
	until := time.Now().Add(s.delay)
	m.record.Due = s.due
	err := m.publish(ctx, s)
	if err == nil {
		m.warnings.Reset(s.queue)
		if s.reason != "" {
			m.logAt(ctx, slog.LevelWarn, "retry: message parked", slog.String("to", s.queue), slog.String("reason", s.reason))
		} else if !s.repeated {
			m.logAt(ctx, slog.LevelInfo, "retry: message failed, it waits", slog.String("to", s.queue), slog.Duration("delay", s.delay))
		}
		return nil
	}
	attrs := m.attrs("handler_error", slog.String("to", s.queue), slog.Any("error", err))
	var invalid *amqperr.FieldError
	if errors.As(err, &invalid) && m.parksRejected() {
		m.log.LogAttrs(ctx, slog.LevelError, "retry: message cannot be moved, it is rejected to the dead-letter exchange", attrs...)
		return consumer.Reject(err)
	}
	// A repeated move is first held by the consumer and requeued at the head, then published to the tail. So it is tried at intervals,
	// and the message does not block others.
	held := s.repeated && !m.d.Redelivered
	if !held && refused(err) {
		m.record.Park = s.reason
		if s.reason == "" && s.due.IsZero() {
			m.record.Due = until
		}
		if m.publish(ctx, step{queue: m.d.Queue}) == nil {
			m.warnings.Warn(ctx, m.log, s.queue, "retry: message not moved, requeued at the tail of its queue", attrs...)
			return nil
		}
	}
	m.warnings.Warn(ctx, m.log, s.queue, "retry: message not moved, requeued", attrs...)
	return &MoveError{Queue: s.queue, Err: err, hold: m.hold()}
}

// refused reports whether RabbitMQ certainly did not accept the message. After an unanswered move, another copy would be a
// duplicate.
func refused(err error) bool {
	var unknown interface{ MaybeDelivered() bool }
	if errors.As(err, &unknown) && unknown.MaybeDelivered() {
		return false
	}
	return !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// hold returns how long the consumer holds the message before it requeues it: the time since the failure within limits, longer if
// RabbitMQ counts the requeue against the delivery limit. Since 4.3 it counts requeues separately, in x-acquired-count.
func (m *message) hold() time.Duration {
	if !m.d.Redelivered {
		return min(max(time.Since(m.record.Last), firstHold), lastHold)
	}
	n, _ := wire.DeliveryCount(m.d.Headers)
	if _, separate := m.d.Headers["x-acquired-count"]; separate || n < 1 {
		return lastHold
	}
	return min(lastHold<<min(n-1, 5), countedHold)
}

// publish publishes the copy within Config.MoveTimeout. A deadline of ctx that has passed comes from a consumer.Timeout around
// the middleware and does not prevent the move. The end of the drain time does.
func (m *message) publish(ctx context.Context, s step) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.cfg.MoveTimeout, fmt.Errorf("not confirmed within %v: %w", m.cfg.MoveTimeout, context.DeadlineExceeded))
	defer cancel()
	m.record.Reason = s.reason
	own := m.record.Headers()
	own[history.HeaderHost], own[history.HeaderConsumer] = m.host, m.d.ConsumerTag
	msg := history.Publishing(&m.d.Delivery)
	msg.MessageId = m.messageID()
	c := history.NewCopy(msg, own)
	err := c.Republish(ctx, m.to, "", s.queue)
	if err == nil {
		c.Log(ctx, m.log.With("queue", m.d.Queue, "to", s.queue), "retry: headers dropped, they do not fit or cannot be sent")
	}
	return err
}

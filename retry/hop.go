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

	"github.com/amqpkit/amqpkit/topology"
)

const (
	firstHold = time.Second
	lastHold  = 30 * time.Second
)

// A MoveError is the middleware's result for a message that could not be moved to its wait or parking queue, nor to the tail of
// its source queue: RabbitMQ did not answer, both queues refused it, or the Publisher refuses it. The message is not lost. The consumer
// holds the original for 1 to 30 s and requeues it, which RabbitMQ 4.3 does not count as a failed delivery. An attempt
// is repeated after a redelivery (a lost connection, an unanswered move): the handler is called again with the same
// [Attempt].
//
// A message whose wait or parking queue is missing or full is requeued at the tail of its source queue, with the rest of its
// wait, or its reason for parking, in its headers. So no process calls a handler for it before its wait has elapsed. The
// move is tried again at each redelivery. A message at the tail counts as new, so it does not come nearer to its delivery limit.
// RabbitMQ before 4.3 counts each requeue: there the worker keeps a message that was counted, and tries again.
type MoveError struct {
	Queue string // where it was to go
	Err   error  // the Publisher's

	hold time.Duration
}

func (e *MoveError) Error() string {
	return fmt.Sprintf("retry: message not moved to queue %s, it stays in its own: %v", validate.Quote(e.Queue), e.Err)
}

// Unwrap returns the consumer.Requeue that the consumer acts on, and the cause.
func (e *MoveError) Unwrap() []error { return []error{consumer.Requeue(e.hold), e.Err} }

// A move takes a failed message to another queue.
type move struct {
	queue  string
	story  history.Record
	why    string    // of parking
	ends   time.Time // when its wait has elapsed
	failed failure   // of the handler, if it was called

	carried bool // the headers of the delivery say all this: a redelivery repeats the move, not the attempt
}

// move publishes the message to another queue. If it returns nil, RabbitMQ has confirmed the copy, and the original may be
// acknowledged.
func (a *attempts) move(ctx context.Context, m move) error {
	log := a.log(m.failed).With("to", m.queue)
	for hold := firstHold; ; hold = min(2*hold, lastHold) {
		if a.d.Stale() { // it is redelivered, and there would be two
			log.Info("retry: message not moved, its delivery is stale: RabbitMQ delivers it again")
			return consumer.ErrStaleDelivery
		}
		err := a.publish(ctx, m)
		if err == nil {
			a.tell(log, m)
			return nil
		}
		log := log.With("cause", err)
		var never *amqperr.FieldError
		if errors.As(err, &never) && a.deadLetters() {
			log.Error("retry: message cannot be moved, it is rejected: RabbitMQ dead-letters it")
			return consumer.Reject(err)
		}
		// A requeued message returns to the head of the queue, where many of them would hold up all others: every second time it
		// goes to the tail.
		if head := m.carried && !a.d.Redelivered && a.mayReturn(); !head && refused(err) && a.publish(ctx, a.renewal(m)) == nil {
			log.Warn("retry: message not moved, it is requeued at the tail of its queue")
			return nil
		}
		if !a.mayReturn() {
			log.Warn("retry: message not moved, its worker keeps it", "held", hold)
			if pause(ctx, hold, nil) {
				continue
			}
		}
		e := &MoveError{Queue: m.queue, Err: err, hold: a.hold(m)}
		again := "its attempt"
		if m.carried {
			again = "the move"
		}
		log.Warn("retry: message not moved, it is requeued, and "+again+" is repeated", "held", e.hold)
		return e
	}
}

// tell logs a move that RabbitMQ has confirmed.
func (a *attempts) tell(log *slog.Logger, m move) {
	switch {
	case m.why != "" && m.carried:
		log.Warn("retry: message parked, after its move was refused before", "why", m.why)
	case m.why != "" && m.failed.err == nil:
		log.Warn("retry: message parked, its handler was not called", "why", m.why, "reason", m.story.Error)
	case m.why != "":
		log.Warn("retry: message failed for good, it is parked", "why", m.why)
	case m.failed.err != nil:
		log.Info("retry: message failed, it waits", "until", m.ends)
	default:
		log.Debug("retry: message waits on", "until", m.ends)
	}
}

// hold returns how long the consumer holds a message before it requeues it: twice as long each time, since it is the time since the failure.
func (a *attempts) hold(m move) time.Duration {
	if a.d.Redelivered {
		return lastHold
	}
	return min(max(time.Since(m.story.Last), firstHold), lastHold)
}

// refused reports that the message was certainly not taken. An unanswered move may have succeeded: a renewal would make one more copy.
func refused(err error) bool {
	return !maybeDelivered(err) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// deadLetters reports that a rejected message cannot be lost: RabbitMQ moves it to another queue at least once.
func (p *Plan) deadLetters() bool {
	return p.declared.Load() && p.cfg.Source != nil && p.topo.Queues[0].DeadLetter.Strategy == topology.AtLeastOnce
}

// mayReturn reports that RabbitMQ does not drop the message if it is requeued: nothing was counted yet, and it does not expire.
func (a *attempts) mayReturn() bool {
	return a.d.Expiration == "" && (a.cfg.Native || failures(a.d) == 0)
}

// renewal is the move to the tail of the message's own queue, with the rest of its wait, or its reason for parking.
func (a *attempts) renewal(m move) move {
	if m.story.Due.IsZero() {
		m.story.Due = m.ends
	}
	m.story.Park, m.why, m.queue = m.why, "", a.d.Queue
	return m
}

// publish publishes the message within Config.MoveTimeout. A deadline of ctx that has passed is from a consumer.Timeout around the
// middleware: that must not keep the message from being moved. The end of the drain time does.
func (a *attempts) publish(ctx context.Context, m move) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.MoveTimeout, fmt.Errorf("retry: not confirmed by queue %s within %v: %w",
		validate.Quote(m.queue), a.cfg.MoveTimeout, context.DeadlineExceeded))
	defer cancel()
	c := a.copy(m)
	err := c.Republish(ctx, a.to, "", m.queue)
	if err == nil {
		c.Log(ctx, a.cfg.Logger.With("queue", a.d.Queue, "to", m.queue), "retry: message changed by its move")
	}
	return err
}

// copy returns the copy of the delivery for a move: body, properties and headers as they came, and the record.
func (a *attempts) copy(m move) *history.Copy {
	own := m.story.Headers()
	own[history.HeaderQueue], own[history.HeaderHost], own[history.HeaderConsumer] = a.d.Queue, a.host, a.d.ConsumerTag
	if m.why != "" {
		own[history.HeaderReason] = m.why
	}
	msg := history.Publishing(&a.d.Delivery)
	msg.MessageId = a.messageID()
	return history.NewCopy(msg, own)
}

// maybeDelivered reports whether a Publisher's error says that the outcome of the publish is unknown.
func maybeDelivered(err error) bool {
	var unknown interface{ MaybeDelivered() bool }
	return errors.As(err, &unknown) && unknown.MaybeDelivered()
}

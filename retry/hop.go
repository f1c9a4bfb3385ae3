package retry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
	"github.com/amqpkit/amqpkit/topology"
)

const (
	firstHold = time.Second
	lastHold  = 30 * time.Second

	minHeaders = 4096 // bytes: the story alone may need as much
)

// A HopError is the middleware's result for a message that could not be taken to its wait or parking queue, nor to the end of
// its own: the Publisher refuses it, or RabbitMQ could not be reached, or did not answer. Nothing is lost: the consumer holds the
// original for 1 s, doubling to 30 s, and gives it back to its queue, which RabbitMQ 4.3 does not count as a failure.
// When it comes again, only the hop is tried again; elsewhere, or after a restart, the handler is called once
// more for the same attempt.
//
// If it is the wait or parking queue that is missing or full, the message goes to the end of its own queue first, with what it
// owes in its headers, so that no handler is called for it again; then it is held and given back, and goes to the end again, in
// turn, until that queue takes it. At the end it counts as new, so that it does not near its delivery limit by that. If it was
// counted and cannot go there either, its worker keeps it and tries on.
type HopError struct {
	Queue string // where it was to go
	Err   error  // the Publisher's

	hold time.Duration
}

func (e *HopError) Error() string {
	return fmt.Sprintf("retry: message not moved to queue %s, it stays in its own: %v", wire.Quote(e.Queue), e.Err)
}

// Unwrap returns the consumer.Requeue that the consumer acts on, and the cause.
func (e *HopError) Unwrap() []error { return []error{consumer.Requeue(e.hold), e.Err} }

// A hop is the way of a failed message to another queue.
type hop struct {
	queue string
	story story
	why   string    // of parking
	ends  time.Time // when its wait is over
	id    string    // the message's, or one for it, the same at each try
	tried int

	carried bool // the headers of the delivery tell all this
}

// hop publishes the message to another queue. Its nil says that RabbitMQ has confirmed it, and that the original may be
// acknowledged.
func (a *attempts) hop(ctx context.Context, h hop) error {
	if h.id == "" {
		h.id = cmp.Or(a.d.MessageId, rand.Text())
	}
	for {
		if a.d.Stale() { // it comes again, and there would be two
			return consumer.ErrStaleDelivery
		}
		err := a.publish(ctx, h)
		if err == nil {
			return nil
		}
		var never *FieldError
		if errors.As(err, &never) && a.deadLetters() {
			a.cfg.Logger.Error("retry: message cannot be moved, it is rejected: RabbitMQ dead-letters it", "queue", a.d.Queue, "to", h.queue,
				"message_id", h.id, "err", err)
			return consumer.Reject(err)
		}
		hold := min(firstHold<<min(h.tried, 5), lastHold)
		h.tried++
		a.cfg.Logger.Warn("retry: message not moved, it stays in its queue", "queue", a.d.Queue, "to", h.queue,
			"message_id", h.id, "attempt", h.story.attempts, "held", hold, "err", err)
		// What is given back comes to the head of the queue, where many such would hold up everything: each second time it goes to the end.
		if back := h.carried && !a.d.Redelivered && a.mayReturn(); !back && refused(err) && a.publish(ctx, a.renewal(h)) == nil {
			return nil
		}
		if a.mayReturn() || !pause(ctx, hold, nil) { // the drain time is over
			a.owed.add(a.d, h)
			return &HopError{Queue: h.queue, Err: err, hold: hold}
		}
	}
}

// refused tells that the message was not taken for sure. What was not answered may be there already: a renewal would be one copy more.
func refused(err error) bool {
	return !errors.Is(err, wire.ErrUnconfirmed) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// deadLetters tells that what is rejected cannot be lost: RabbitMQ takes it to another queue at least once.
func (p *Plan) deadLetters() bool {
	return p.declared.Load() && p.cfg.Source != nil && p.topo.Queues[0].DeadLetter.Strategy == topology.AtLeastOnce
}

// mayReturn tells that giving the message back cannot be its end: nothing was counted yet, and it does not expire.
func (a *attempts) mayReturn() bool {
	return a.d.Expiration == "" && (a.cfg.Native || failures(a.d) == 0)
}

// renewal is the way to the end of the message's own queue. What it owes is in its story: the rest of the wait, or to be parked.
func (a *attempts) renewal(h hop) hop {
	if h.story.due.IsZero() {
		h.story.due = h.ends
	}
	h.story.park, h.story.tries, h.why, h.queue = h.why, h.tried, "", a.d.Queue
	return h
}

// publish publishes the message, with shorter headers where this connection's frames need that. It is bounded. A deadline that is over
// already is that of a handler's Timeout put around the middleware: that shall not keep the message from being moved. The end of
// the drain time shall.
func (a *attempts) publish(ctx context.Context, h hop) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.HopTimeout, fmt.Errorf("retry: not confirmed by queue %s within %v: %w",
		wire.Quote(h.queue), a.cfg.HopTimeout, context.DeadlineExceeded))
	defer cancel()
	for room := wire.MaxHeaders; ; room /= 2 {
		err := a.send(ctx, h.queue, a.publishing(a.d, h, room))
		var wrong *FieldError
		if room < minHeaders || !errors.As(err, &wrong) || !strings.HasPrefix(wrong.Field, "Headers") {
			return err
		}
	}
}

// send is Publish. A panic there, as of a nil Publisher, is no failure of the message's.
func (a *attempts) send(ctx context.Context, queue string, msg amqp.Publishing) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("retry: the Publisher panicked: %v", v)
		}
	}()
	return a.to.Publish(ctx, "", queue, msg)
}

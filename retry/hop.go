package retry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
	"github.com/amqpkit/amqpkit/topology"
)

const (
	firstHold = time.Second
	lastHold  = 30 * time.Second

	minHeaders = 4096 // bytes: the story alone may need as much

	maxOwed = 1024
)

// A HopError is the middleware's result for a message that could not be taken to its wait or parking queue: it
// is missing or full, RabbitMQ could not be reached, or the Publisher refuses it. Nothing is lost: the consumer holds the original
// for 1 s, doubling to 30 s, and gives it back to its queue, which RabbitMQ 4.3 does not count as a failure.
// When it comes again, only the hop is tried again; elsewhere, or after a restart, the handler is called once
// more for the same attempt.
//
// Where returns are counted, as earlier releases do, a message that was given back is not given back again, since it might
// reach its delivery limit. If the other queue is missing or full it is published to the end of its own, as a new one; if that
// cannot be done either, or RabbitMQ does not answer, its worker keeps it and tries on.
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
		a.cfg.Logger.Warn("retry: message not moved, it is held and stays in its queue", "queue", a.d.Queue, "to", h.queue,
			"message_id", h.id, "attempt", h.story.attempts, "held", hold, "err", err)
		if a.mayReturn() {
			a.owed.add(a.d, h)
			return &HopError{Queue: h.queue, Err: err, hold: hold}
		}
		// What was not answered in time may be there already: a renewal might be one copy more.
		if !errors.Is(err, context.DeadlineExceeded) && a.publish(ctx, a.renewal(h)) == nil {
			return nil
		}
		if sleep(ctx, hold) != nil { // the drain time is over
			a.owed.add(a.d, h)
			return &HopError{Queue: h.queue, Err: err, hold: hold}
		}
	}
}

// deadLetters tells that what is rejected cannot be lost: RabbitMQ takes it to another queue at least once.
func (p *Plan) deadLetters() bool {
	return p.cfg.Source != nil && p.topo.Queues[0].DeadLetter.Strategy == topology.AtLeastOnce
}

// mayReturn tells that the message was not given back in vain before, as far as RabbitMQ counts that.
func (a *attempts) mayReturn() bool { return a.cfg.Native || failures(a.d) == 0 }

// renewal is the way to the end of the message's own queue. What it owes is in its story: the rest of the wait, or to be parked.
func (a *attempts) renewal(h hop) hop {
	if h.story.due.IsZero() {
		h.story.due = h.ends
	}
	h.story.park, h.why, h.queue = h.why, "", a.d.Queue
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
		err := a.to.Publish(ctx, "", h.queue, a.publishing(a.d, h, room))
		var wrong *FieldError
		if room < minHeaders || !errors.As(err, &wrong) || !strings.HasPrefix(wrong.Field, "Headers") {
			return err
		}
	}
}

// owed are hops that failed, by the message that is to make them, so that its handler is not called once more
// when it comes again.
type owed struct {
	mu   sync.Mutex
	hops map[debtor]hop
}

// A debtor is a message as far as it can be known again. Two that are the same in all of this can stand for
// each other.
type debtor struct {
	id       string
	attempts int64
	rest     uint64
}

var seed = maphash.MakeSeed()

func debtorOf(d *consumer.Delivery) debtor {
	n, _ := d.Headers[HeaderAttempts].(int64)
	var h maphash.Hash
	h.SetSeed(seed)
	for _, s := range []string{d.Exchange, d.RoutingKey, d.ContentType, d.ContentEncoding, d.CorrelationId, d.ReplyTo, d.Type, d.AppId} {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
	_, _ = h.WriteString(d.Timestamp.String())
	_, _ = h.Write(d.Body)
	return debtor{d.MessageId, n, h.Sum64()}
}

// add remembers a hop. Beyond a bound any other is forgotten: that costs one more call of its handler.
func (o *owed) add(d *consumer.Delivery, h hop) {
	who := debtorOf(d)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hops == nil {
		o.hops = map[debtor]hop{}
	}
	if _, known := o.hops[who]; !known && len(o.hops) >= maxOwed {
		for any := range o.hops {
			delete(o.hops, any)
			break
		}
	}
	o.hops[who] = h
}

// take returns what a delivery owes, and forgets it.
func (o *owed) take(d *consumer.Delivery) (hop, bool) {
	if !d.Redelivered {
		return hop{}, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.hops) == 0 {
		return hop{}, false
	}
	who := debtorOf(d)
	h, ok := o.hops[who]
	delete(o.hops, who)
	return h, ok
}

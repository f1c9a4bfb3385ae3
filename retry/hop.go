package retry

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	firstHold = time.Second
	lastHold  = 30 * time.Second

	// keepFrom is the number of counted deliveries from which a message is not given back to a
	// quorum queue any more: RabbitMQ before 4.3 counts that, and drops the message at 20.
	keepFrom = 10

	maxOwed = 1024
)

// A HopError is the middleware's result for a message that could not be taken to its wait or parking queue: it
// is missing or full, or RabbitMQ could not be reached. Nothing is lost: the consumer holds the original
// for 1 s, doubling to 30 s, and gives it back to its queue, which RabbitMQ 4.3 does not count as a failure.
// When it comes again, only the hop is tried again; elsewhere, or after a restart, the handler is called once
// more for the same attempt.
//
// Earlier releases do count, and drop a message at 20: there, from the tenth time on, the worker keeps it
// and tries on until it succeeds.
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
	why   string // of parking
	tried int
}

// hop publishes the message to another queue. Its nil says that RabbitMQ has confirmed it, and that the original may be
// acknowledged.
func (a *attempts) hop(ctx context.Context, h hop) error {
	msg := a.publishing(a.d, h.story, h.why)
	for {
		err := a.publish(ctx, h.queue, func(ctx context.Context) error { return a.to.Publish(ctx, "", h.queue, msg) })
		if err == nil {
			return nil
		}
		hold := min(firstHold<<min(h.tried, 5), lastHold)
		h.tried++
		a.cfg.Logger.Warn("retry: message not moved, it is held and stays in its queue", "queue", a.d.Queue, "to", h.queue,
			"message_id", a.d.MessageId, "attempt", h.story.attempts, "held", hold, "err", err)
		if !a.mustKeep() || sleep(ctx, hold) != nil {
			a.owed.add(a.d, h)
			return &HopError{Queue: h.queue, Err: err, hold: hold}
		}
	}
}

// publish bounds a hop. A deadline that is over already is that of a handler's Timeout put around the middleware:
// that shall not keep the message from being moved. The end of the drain time shall.
func (a *attempts) publish(ctx context.Context, queue string, do func(context.Context) error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.HopTimeout, fmt.Errorf("retry: not confirmed by queue %s within %v: %w",
		wire.Quote(queue), a.cfg.HopTimeout, context.DeadlineExceeded))
	defer cancel()
	return do(ctx)
}

// mustKeep tells that RabbitMQ may drop the message when it is given back once more.
func (a *attempts) mustKeep() bool {
	return !a.cfg.Native && failures(a.d) >= keepFrom
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

package retry

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
)

// A Publisher takes failed messages to their wait and parking queues; *producer.Producer is one. Publish
// returns nil only when the message was routed to a queue and confirmed: a Producer that allows what is
// unroutable would lose messages whose wait queue is missing.
type Publisher interface {
	Publish(ctx context.Context, exchange, key string, msg amqp.Publishing) error
}

// Middleware returns the middleware that retries and parks what the handlers of the plan's queue return errors
// for. Such a message is published again, to a wait queue or to the parking queue, and the original is
// acknowledged when RabbitMQ has confirmed that. If it has not, the original goes back to its queue,
// see [HopError].
//
//	nil                        acknowledged
//	consumer.Requeue(d)        back to the queue after d, as without the middleware: no attempt
//	consumer.Reject(err)       parked at once, as is what JSON cannot decode
//	retry.Permanent(err)       parked at once, as is any error that says it is permanent
//	retry.After(d, err)        again after d, within the policy
//	an error with a Rule       as the rule says
//	any other error, a panic   as the policy says
//
// Put it before what wraps a single attempt, such as consumer.Timeout.
func (p *Plan) Middleware(to Publisher) consumer.Middleware {
	return func(next consumer.Handler) consumer.Handler {
		return func(ctx context.Context, d *consumer.Delivery) error {
			if d.Queue != p.cfg.Queue {
				return p.misplaced(ctx, d)
			}
			return (&attempts{Plan: p, to: to, next: next, d: d, story: read(d)}).run(ctx)
		}
	}
}

// misplaced refuses a delivery of a queue that the plan is not for: its wait queues lead elsewhere.
func (p *Plan) misplaced(ctx context.Context, d *consumer.Delivery) error {
	err := fault("Queue", fmt.Sprintf("the plan is for %q, the delivery came from %q", p.cfg.Queue, d.Queue), "make a plan for each queue")
	p.cfg.Logger.Error("retry: message given back, its handler was not called", "queue", d.Queue, "message_id", d.MessageId, "err", err)
	for failures(d) > 0 && !d.Stale() && pause(ctx, lastHold, nil) { // it might near its delivery limit
	}
	return &HopError{Queue: d.Queue, Err: err, hold: lastHold}
}

type attemptKey struct{}

// Attempt returns which attempt at its message a handler makes, the first being 1. Outside of the
// middleware it is 0.
func Attempt(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}

// attempts are those made at one delivery.
type attempts struct {
	*Plan
	to    Publisher
	next  consumer.Handler
	d     *consumer.Delivery
	story story
	held  time.Duration // in the process, between attempts
}

func (a *attempts) run(ctx context.Context) error {
	now := time.Now()
	h, owes := a.owed.take(a.d, now) // the handler has had its attempt
	if owes {
		a.story = h.story
	}
	rest := a.story.rest(now)
	switch {
	case owes && (h.why != "" || now.Before(h.ends)):
		return a.hop(ctx, h)
	case a.story.park != "":
		h := hop{queue: a.ParkingQueue(), story: a.story, why: a.story.park, tried: a.story.tries, carried: true}
		h.story.park, h.story.tries = "", 0
		return a.hop(ctx, h)
	case rest > a.cfg.InProcess && len(a.tiers) > 0:
		tier, due := a.rest(rest, now)
		if tier > rest+rest/4 && a.mayReturn() {
			return consumer.Requeue(min(rest, lastHold))
		}
		h := a.later(tier, due, now)
		h.ends, h.tried, h.story.tries, h.carried = now.Add(rest), a.story.tries, 0, !owes
		return a.hop(ctx, h)
	case rest > 0 && !a.waits(ctx, min(rest, a.cfg.InProcess)):
		return a.leave(ctx, rest)
	}
	if a.cfg.Native {
		a.story.attempts = failures(a.d)
	}
	if a.story.attempts >= a.most { // the policy was shortened meanwhile, or somebody counted for us
		return a.park(ctx, WhyAttempts)
	}
	for {
		err := a.next(context.WithValue(ctx, attemptKey{}, a.story.attempts+1), a.story.show(a.d))
		err = a.sound(ctx, err)
		if passes(ctx, err) {
			return err
		}
		now := time.Now()
		a.story.fails(err, now)
		if a.cfg.Native && a.story.attempts > 1 {
			a.story.first = time.Time{} // unknown
		}
		s := a.decide(err, a.story.attempts, now.Sub(a.story.first))
		log := a.cfg.Logger.With("queue", a.d.Queue, "message_id", a.d.MessageId, "attempt", a.story.attempts, "err", err)
		var panicked *consumer.PanicError
		if errors.As(err, &panicked) {
			log = log.With("stack", string(panicked.Stack))
		}
		switch s.end {
		case Discard:
			log.Info("retry: message discarded")
			return nil
		case Park:
			log.Warn("retry: message failed for good, it is parked", "why", s.why)
			return a.park(ctx, s.why)
		}
		if a.cfg.Native {
			return consumer.Fail(err) // which the consumer logs
		}
		delay, ok := a.inProcess(s, a.held)
		if !ok {
			tier, due := a.wait(s, now)
			log.Info("retry: message failed, it waits", "delay", tier)
			return a.hop(ctx, a.later(tier, due, now))
		}
		log.Info("retry: message failed, its worker waits", "delay", delay)
		a.held += delay
		if !a.waits(ctx, delay) {
			return a.leave(ctx, delay)
		}
		if a.d.Stale() { // the attempts go on with the delivery that comes again
			return consumer.ErrStaleDelivery
		}
	}
}

// waits waits in the process. It returns false when the Run shuts down: at once where the message is moved instead, or where
// returning it repeats no attempt, else if the wait outlasts the drain time. The deadline of a Timeout put around the middleware
// ends no attempts: they fail, and count.
func (a *attempts) waits(ctx context.Context, d time.Duration) bool {
	var ending <-chan struct{}
	if returnsCount(a.d) || a.held == 0 {
		ending = consumer.Ending(ctx)
	}
	return pause(ctx, d, ending)
}

// pause is sleep that also ends early with ending, or when the Run shuts down and the rest would outlast the drain time,
// and not with a deadline.
func pause(ctx context.Context, d time.Duration, ending <-chan struct{}) bool {
	end := time.Now().Add(d)
	t := time.NewTimer(d)
	defer t.Stop()
	done, drains := ctx.Done(), consumer.Ending(ctx)
	for {
		select {
		case <-t.C:
			return true
		case <-ending:
			return false
		case <-drains:
			if left, _ := consumer.DrainLeft(ctx); time.Until(end) >= left {
				return false
			}
			drains = nil
		case <-done:
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return false
			}
			done = nil
		}
	}
}

// leave gives back a message amid a wait: the attempts since its delivery are made again. Where that counts it goes to the end
// of its queue instead, and takes them and the rest of its wait along.
func (a *attempts) leave(ctx context.Context, rest time.Duration) error {
	if !returnsCount(a.d) {
		return consumer.Requeue(firstHold)
	}
	h := hop{queue: a.d.Queue, story: a.story}
	h.story.due = time.Now().Add(rest)
	return a.hop(ctx, h)
}

// sound returns a handler's error, or a panic in its place if looking at it makes one, as with a typed nil.
func (a *attempts) sound(ctx context.Context, err error) (sound error) {
	defer func() {
		if v := recover(); v != nil {
			sound = &consumer.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if !passes(ctx, err) {
		describe(err)
		a.decide(err, 1, 0)
	}
	return err
}

// failures is how often RabbitMQ has counted the delivery as failed. A publisher may set the header on
// a new message.
func failures(d *consumer.Delivery) int {
	n, _ := d.Headers["x-delivery-count"].(int64)
	handedOut, apart := d.Headers["x-acquired-count"].(int64)
	if !d.Redelivered || apart && n > handedOut { // a publisher's, until the first failure
		return 0
	}
	return int(min(max(n, 0), 1<<30))
}

// returnsCount tells that RabbitMQ counts what is given back, as before 4.3: later releases count apart what was handed out.
func returnsCount(d *consumer.Delivery) bool {
	_, apart := d.Headers["x-acquired-count"]
	return failures(d) > 0 && !apart
}

// passes tells the results that are no failure of the message: success, a postponement, and the end of the
// consumer's drain time.
func passes(ctx context.Context, err error) bool {
	if err == nil {
		return true
	}
	var panicked *consumer.PanicError
	if errors.As(err, &panicked) {
		return false
	}
	var requeue *consumer.RequeueError
	var rejected *consumer.RejectError
	if errors.As(err, &requeue) && !errors.As(err, &rejected) {
		return true
	}
	return errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled)
}

func (a *attempts) park(ctx context.Context, why string) error {
	return a.hop(ctx, hop{queue: a.ParkingQueue(), story: a.story, why: why})
}

// later is the way to the wait queue of a tier, and if that is not enough, to another one until it is due.
func (a *attempts) later(tier time.Duration, due, now time.Time) hop {
	h := hop{queue: waitQueue(a.cfg.Queue, tier), story: a.story, ends: now.Add(tier)}
	h.story.due = due
	return h
}

// sleep returns nil after d, or the cause when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package retry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
)

// A Publisher publishes received messages again; *producer.Producer is one. Republish returns nil only when the
// message was routed to a queue and confirmed. It publishes with the mandatory flag, whatever the Publisher does with
// other messages. If it cannot send a header, it
// refuses the message with a *[amqperr.FieldError] for that field, and retry publishes it without that header.
type Publisher interface {
	Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error
}

// Middleware returns the middleware that retries and parks the messages whose handlers return errors. Such a message is published again, to a wait queue or to the parking queue, and the original is
// acknowledged when RabbitMQ has confirmed that. If it has not, the original goes back to its queue,
// see [MoveError].
//
//	nil                        acknowledged
//	consumer.Requeue(d)        back to the queue after d, as without the middleware: no attempt
//	consumer.Reject(err)       parked at once, as is what JSON cannot decode
//	amqperr.Permanent(err)       parked at once, as is any error that says it is permanent
//	retry.After(d, err)        again after d, within the policy
//	an error with a Rule       as the rule says
//	any other error, a panic,
//	runtime.Goexit             as the policy says
//
// The handler runs on a separate goroutine, and the middleware waits for it. A handler that never returns keeps its worker; see
// the section Attempts of the package.
//
// Put it before what wraps a single attempt, such as consumer.Timeout.
func (p *Plan) Middleware(to Publisher) consumer.Middleware {
	return func(next consumer.Handler) consumer.Handler {
		return func(ctx context.Context, d *consumer.Delivery) error {
			if d.Queue != p.cfg.Queue {
				return p.misplaced(ctx, d)
			}
			return (&attempts{Plan: p, to: to, next: next, d: d, story: history.Read(&d.Delivery, d.Queue)}).run(ctx)
		}
	}
}

// misplaced refuses a delivery of a queue that the plan is not for: its wait queues lead elsewhere.
func (p *Plan) misplaced(ctx context.Context, d *consumer.Delivery) error {
	err := fault("Queue", fmt.Sprintf("the plan is for %q, the delivery came from %q", p.cfg.Queue, d.Queue), "make a plan for each queue")
	p.cfg.Logger.Error("retry: message requeued, its handler was not called", "queue", d.Queue, "message_id", d.MessageId, "error", err)
	for failures(d) > 0 && !d.Stale() && pause(ctx, lastHold, nil) { // it might near its delivery limit
	}
	return &MoveError{Queue: d.Queue, Err: err, hold: lastHold}
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
	story history.Record
	id    string        // see messageID
	held  time.Duration // in the process, between attempts
}

func (a *attempts) run(ctx context.Context) error {
	now := time.Now()
	a.ignoreImpossible(now)
	rest := a.story.Rest(now)
	switch {
	case a.story.Park != "":
		m := a.parking(a.story.Park)
		m.story.Park, m.carried = "", true
		return a.move(ctx, m)
	case rest > a.cfg.MaxInProcessDelay && len(a.tiers) > 0:
		tier, due := a.rest(rest, now)
		if rest <= lastHold && tier > rest+rest/4 && a.mayReturn() {
			return consumer.Requeue(rest)
		}
		m := a.waiting(tier, due)
		m.ends, m.carried = now.Add(rest), true
		return a.move(ctx, m)
	case rest > 0 && !a.waits(ctx, min(rest, a.cfg.MaxInProcessDelay)):
		return a.leave(ctx, rest)
	}
	if a.cfg.Native {
		a.story.Attempts = failures(a.d)
	}
	if a.story.Attempts >= a.most+a.spare() { // the policy was shortened meanwhile, or another program has counted
		return a.move(ctx, a.spent())
	}
	for {
		f := a.attempt(ctx)
		if f.passes {
			return f.err
		}
		now := time.Now()
		if n := a.story.Attempts; a.cfg.Native && n > 0 {
			a.story.Entries = history.Append(a.story.Entries, history.Stamp(now)+" "+countedBy(n))
		}
		a.story.Add(f.text, f.kind, now)
		if a.cfg.Native && a.story.Attempts > 1 {
			a.story.First = time.Time{} // unknown
		}
		s := a.decide(f, a.story.Attempts, now.Sub(a.story.First), a.held)
		switch s.end {
		case Discard:
			a.log(f).Info("retry: message failed, it is discarded")
			return nil
		case Park:
			m := a.parking(s.why)
			m.failed = f
			return a.move(ctx, m)
		}
		if a.cfg.Native {
			return consumer.Fail(f.err) // which the consumer logs
		}
		delay, ok := a.inProcess(s, a.held)
		if !ok {
			m := a.waiting(a.wait(s, now))
			m.failed = f
			return a.move(ctx, m)
		}
		a.log(f).Info("retry: message failed, its worker waits", "delay", delay)
		a.held += delay
		if !a.waits(ctx, delay) {
			return a.leave(ctx, delay)
		}
		if a.d.Stale() { // the next delivery continues the attempts
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
		ending = consumer.Draining(ctx)
	}
	return pause(ctx, d, ending)
}

// pause is sleep that also ends early with ending, or when the Run shuts down and the rest would outlast the drain time,
// and not with a deadline.
func pause(ctx context.Context, d time.Duration, ending <-chan struct{}) bool {
	end := time.Now().Add(d)
	t := time.NewTimer(d)
	defer t.Stop()
	done, drains := ctx.Done(), consumer.Draining(ctx)
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
	m := move{queue: a.d.Queue, story: a.story}
	m.story.Due = time.Now().Add(rest)
	return a.move(ctx, m)
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

// spare is how many deliveries beyond the policy's attempts still reach the handler. RabbitMQ also counts lost connections and the
// messages that a shutdown returned in order, for which a handler need not even have begun. As many as its default delivery limit are
// taken for a message that ends the process.
func (a *attempts) spare() int {
	if a.cfg.Native {
		return 20
	}
	return 0
}

// returnsCount tells that RabbitMQ counts what is given back, as before 4.3: later releases count apart what was handed out.
func returnsCount(d *consumer.Delivery) bool {
	_, apart := d.Headers["x-acquired-count"]
	return failures(d) > 0 && !apart
}

// ignoreImpossible ignores a wait that this plan cannot have asked for, and an unknown reason for parking: another program has set
// the header, or another policy was in use.
func (a *attempts) ignoreImpossible(now time.Time) {
	if rest := a.story.Rest(now); rest > a.longest {
		a.log(failure{}).Warn("retry: due time of a message ignored, it is beyond the longest wait of the plan", "rest", rest, "longest", a.longest)
		a.story.Due = time.Time{}
	}
	switch a.story.Park {
	case "", history.ReasonAttempts, history.ReasonAge, history.ReasonAfter, history.ReasonPermanent, history.ReasonRejected, history.ReasonRule, history.ReasonRedelivered:
	default:
		a.log(failure{}).Warn("retry: unknown reason for parking a message ignored", "why", a.story.Park)
		a.story.Park = ""
	}
}

// spent is the move of a message that comes with as many attempts as any policy allows.
func (a *attempts) spent() move {
	if !a.cfg.Native {
		return a.parking(history.ReasonAttempts)
	}
	m := a.parking(history.ReasonRedelivered)
	m.story.Attempts = 0 // that are known
	m.story.Error = "the handler was not called again: " + countedBy(a.story.Attempts)
	m.story.Entries = history.Append(m.story.Entries, history.Stamp(time.Now())+" "+m.story.Error)
	return m
}

// countedBy explains a count that a story cannot vouch for.
func countedBy(n int) string {
	return fmt.Sprintf("RabbitMQ counted %d deliveries as failed, by lost connections, shutdowns or failures of the handler", n)
}

// messageID returns the id of the message, or one for its copies if it came without.
func (a *attempts) messageID() string {
	if a.id == "" {
		a.id = cmp.Or(a.d.MessageId, rand.Text())
	}
	return a.id
}

// log returns the logger for lines about the message, with the failure if there is one.
func (a *attempts) log(f failure) *slog.Logger {
	log := a.cfg.Logger.With("queue", a.d.Queue, "message_id", a.messageID(), "attempt", a.story.Attempts)
	if f.err != nil {
		log = log.With("error", f.text)
	}
	if f.stack != nil {
		log = log.With("stack", string(f.stack))
	}
	return log
}

// parking is the move to the parking queue.
func (a *attempts) parking(why string) move {
	return move{queue: a.ParkingQueue(), story: a.story, why: why}
}

// waiting is the move to the wait queue of a tier, and if that is not enough, to another one until it is due.
func (a *attempts) waiting(tier time.Duration, due time.Time) move {
	m := move{queue: history.WaitQueue(a.cfg.Queue, tier), story: a.story, ends: time.Now().Add(tier)}
	m.story.Due = due
	return m
}

package retry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
)

func tooManyTiers(n int) error {
	return fault("Policy", fmt.Sprintf("%d wait queues would be needed, and each costs memory on every node; the limit is %d", n, maxTiers),
		"use fewer different delays, or less jitter")
}

// errGoexit is the failure of a handler that ended its goroutine.
var errGoexit = errors.New("the handler called runtime.Goexit, as t.FailNow does")

// A failure is a handler's result, read once: methods of errors may panic, or end their goroutine.
type failure struct {
	err        error
	passes     bool // not a failure of the message
	text, kind string
	rejected   bool
	permanent  bool
	after      *AfterError
	action     Action
	stack      []byte // of a panic
}

// attempt calls the handler on a separate goroutine and waits for it. So every end of a handler is an attempt, also
// runtime.Goexit.
func (a *attempts) attempt(ctx context.Context) failure {
	ctx = context.WithValue(ctx, attemptKey{}, a.story.Attempts+1)
	d := shown(a.d, &a.story)
	f := separately(func() *failure { return a.result(ctx, call(ctx, a.next, d)) })
	if f == nil {
		f = separately(func() *failure { return a.result(ctx, errGoexit) })
	}
	if f == nil { // in a rule's predicate
		f = &failure{err: errGoexit, text: errGoexit.Error(), action: a.cfg.Policy}
	}
	return *f
}

// shown returns the delivery as the handler sees it: as it was published, with the record in its headers. Changes by the handler
// do not affect the original.
func shown(d *consumer.Delivery, r *history.Record) *consumer.Delivery {
	shown := *d
	shown.Body = append([]byte(nil), d.Body...)
	shown.Exchange, shown.RoutingKey, shown.Expiration = r.Exchange, r.Key, r.Expiration
	shown.Headers, _ = history.Clone(d.Headers).(amqp.Table)
	if shown.Headers == nil {
		shown.Headers = amqp.Table{}
	}
	delete(shown.Headers, history.HeaderCC)
	if r.CC != nil {
		shown.Headers["CC"] = r.CC
	}
	return &shown
}

// PublishedTo returns the exchange and the routing key with which a delivery was first published, also after it
// came from a wait queue. Inside the middleware a delivery has them in its fields. Outside, for example in Config.Key of a
// consumer, use PublishedTo. Queue is the queue whose handler failed; a parked message lies in another one.
func PublishedTo(d *consumer.Delivery, queue string) (exchange, key string) {
	r := history.Read(&d.Delivery, queue)
	return r.Exchange, r.Key
}

// separately runs f on another goroutine. It returns nil if f did not return.
func separately(f func() *failure) (result *failure) {
	results := make(chan *failure, 1)
	go func() {
		var result *failure
		defer func() { results <- result }()
		result = f()
	}()
	return <-results
}

// call returns a panic of the handler as its error.
func call(ctx context.Context, h consumer.Handler, d *consumer.Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &consumer.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return h(ctx, d)
}

// result reads a handler's result. A panic of one of its methods, as of a typed nil, is the failure in its place.
func (p *Plan) result(ctx context.Context, err error) (f *failure) {
	defer func() {
		if v := recover(); v != nil {
			f = p.classify(ctx, &consumer.PanicError{Value: fmt.Sprint(v), Stack: debug.Stack()})
		}
	}()
	return p.classify(ctx, err)
}

var success = &failure{passes: true}

func (p *Plan) classify(ctx context.Context, err error) *failure {
	if err == nil {
		return success
	}
	if passes(ctx, err) {
		return &failure{err: err, passes: true}
	}
	f := &failure{err: err, permanent: amqperr.IsPermanent(err), action: p.action(err)}
	f.text, f.kind = describe(err)
	errors.As(err, &f.after)
	switch result := outermost(err).(type) { //nolint:errorlint // the outermost
	case *consumer.PanicError:
		f.stack = result.Stack
	case *consumer.RejectError:
		f.rejected = true
	}
	return f
}

// outermost returns the result in err that the consumer would act on, which may wrap another one as its reason, or nil.
func outermost(err error) error {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case *consumer.PanicError, *consumer.RejectError, *consumer.RequeueError, *consumer.FailError:
		return err
	case interface{ Unwrap() error }:
		return outermost(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if result := outermost(err); result != nil {
				return result
			}
		}
	}
	return nil
}

// passes reports the results that are not a failure of the message: success, a postponement, and the end of the
// consumer's drain time.
func passes(ctx context.Context, err error) bool {
	switch result := outermost(err).(type) { //nolint:errorlint // the outermost
	case *consumer.RequeueError:
		return result != nil
	case *consumer.PanicError, *consumer.RejectError:
		return false
	}
	return errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled)
}

// action returns the action of the first rule for err.
func (p *Plan) action(err error) Action {
	for _, r := range p.cfg.Rules {
		if matches(r, err) {
			return r.action
		}
	}
	return p.cfg.Policy
}

// matches is false also where the rule's predicate panics.
func matches(r Rule, err error) (matched bool) {
	defer func() {
		if recover() != nil {
			matched = false
		}
	}()
	return r.match(err)
}

// A step follows a failed attempt: a delay before the next attempt, or an end.
type step struct {
	delay  time.Duration
	asked  bool     // by After: no tier of the policy's
	policy Policy   // that the delay is of
	end    Disposal // zero means the delay
	why    string   // of Park
}

// decide returns the step after a failed attempt. Held is how long the message was held in the process.
func (p *Plan) decide(f failure, attempt int, age, held time.Duration) step {
	if f.rejected {
		return step{end: Park, why: history.ReasonRejected}
	}
	if end, ok := f.action.(Disposal); ok {
		return step{end: end, why: history.ReasonRule}
	}
	policy := f.action.(Policy)
	if f.permanent {
		return step{end: Park, why: history.ReasonPermanent}
	}
	if attempt >= policy.attempts {
		return step{end: Park, why: history.ReasonAttempts}
	}
	if f.after != nil && !p.cfg.Native {
		d := max(f.after.Delay, 0)
		if policy.maxAge > 0 && d > policy.maxAge-max(age, 0) {
			return step{end: Park, why: history.ReasonAge}
		}
		if d > p.longest || len(p.tiers) == 0 && d > maxInProcess-held {
			return step{end: Park, why: history.ReasonAfter}
		}
		return step{delay: d, asked: true, policy: policy}
	}
	d, ok := policy.Jitter(0).Next(attempt, age)
	if !ok {
		return step{end: Park, why: history.ReasonAge}
	}
	return step{delay: d, policy: policy}
}

// inProcess tells whether the worker waits out the step, and how long, when it has held the message for some time already. A
// plan without wait queues has no other way.
func (p *Plan) inProcess(s step, held time.Duration) (time.Duration, bool) {
	most := 2 * maxInProcess // the policy's own delays are within a half of it
	if s.asked {
		most = maxInProcess
	}
	longest := min(p.cfg.MaxInProcessDelay, most-held)
	switch {
	case p.cfg.MaxInProcessDelay == 0 || s.delay > longest && len(p.tiers) > 0:
		return 0, false
	case s.asked:
		return min(s.delay, longest), true
	}
	return min(jittered(s.delay, s.policy.jitter, rand.Int64N), longest), true
}

// wait returns the tier of the next wait queue. If that is shorter than the delay, due is the time when the delay has elapsed.
func (p *Plan) wait(s step, now time.Time) (tier time.Duration, due time.Time) {
	choice := spread(s.delay, s.policy.jitter)
	tier = choice[rand.IntN(len(choice))]
	if _, made := slices.BinarySearch(p.tiers, tier); made && !s.asked {
		return tier, time.Time{}
	}
	return p.rest(s.delay, now)
}

// rest is wait for the rest of a delay.
func (p *Plan) rest(d time.Duration, now time.Time) (tier time.Duration, due time.Time) {
	tier, enough := p.tier(d)
	if enough {
		return tier, time.Time{}
	}
	return tier, now.Add(d)
}

// describe returns the text and the type of a handler's error, without the marks of this package and consumer's.
func describe(err error) (text, kind string) {
	text = history.Cut(err.Error(), history.MaxErrorText)
	for {
		var inner error
		switch e := err.(type) { //nolint:errorlint // only the marks on the outside are taken off
		case interface {
			Permanent() bool
			Unwrap() error
		}: // amqperr.Permanent
			inner = e.Unwrap()
		case *AfterError:
			inner = e.Err
		case *consumer.RejectError:
			inner = e.Err
		}
		if inner == nil {
			return text, history.Cut(fmt.Sprintf("%T", err), history.MaxEntryText)
		}
		err = inner
	}
}

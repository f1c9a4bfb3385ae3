package retry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
)

func tooManyTiers(n int) error {
	return fault("Policy", fmt.Sprintf("%d wait queues would be needed, and each costs memory on every node; the limit is %d", n, maxTiers),
		"use fewer different delays, or less jitter")
}

// A step is what is done with a failed message: a delay before the next attempt, or an end.
type step struct {
	delay  time.Duration
	asked  bool     // by After: no tier of the policy's
	policy Policy   // that the delay is of
	end    Disposal // zero means the delay
	why    string   // of Park
}

// Why a message was parked: the values of the header x-amqpkit-why.
const (
	WhyAttempts  = "attempts"  // as many as the policy allows
	WhyAge       = "age"       // the next attempt would have exceeded Policy.MaxAge
	WhyPermanent = "permanent" // Permanent, or an error that says so itself
	WhyRejected  = "rejected"  // consumer.Reject, as of a body that does not decode
	WhyRule      = "rule"      // a Rule says Park
)

// decide says what to do after attempt failed with err.
func (p *Plan) decide(err error, attempt int, age time.Duration) step {
	var panicked *consumer.PanicError
	var rejected *consumer.RejectError
	if errors.As(err, &rejected) && !errors.As(err, &panicked) {
		return step{end: Park, why: WhyRejected}
	}
	action := p.action(err)
	if end, ok := action.(Disposal); ok {
		return step{end: end, why: WhyRule}
	}
	policy := action.(Policy)
	if IsPermanent(err) {
		return step{end: Park, why: WhyPermanent}
	}
	if attempt >= policy.attempts {
		return step{end: Park, why: WhyAttempts}
	}
	var after *AfterError
	if errors.As(err, &after) {
		d := min(max(after.Delay, 0), maxDelay)
		if policy.maxAge > 0 && d > policy.maxAge-max(age, 0) {
			return step{end: Park, why: WhyAge}
		}
		return step{delay: d, asked: true, policy: policy}
	}
	d, ok := policy.Jitter(0).Next(attempt, age)
	if !ok {
		return step{end: Park, why: WhyAge}
	}
	return step{delay: d, policy: policy}
}

// action is that of the first rule for err.
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

// inProcess tells whether the worker waits out the step, and how long, when it has held the message for some time already. A
// plan without wait queues has no other way.
func (p *Plan) inProcess(s step, held time.Duration) (time.Duration, bool) {
	most := 2 * maxInProcess // the policy's own delays are within a half of it
	if s.asked {
		most = maxInProcess
	}
	longest := min(p.cfg.InProcess, most-held)
	switch {
	case p.cfg.InProcess == 0 || s.delay > longest && len(p.tiers) > 0:
		return 0, false
	case s.asked:
		return min(s.delay, longest), true
	}
	return min(jittered(s.delay, s.policy.jitter, rand.Int64N), longest), true
}

// wait returns the tier of the wait queue to go to. If that is not enough, due is when it will be.
func (p *Plan) wait(s step, now time.Time) (tier time.Duration, due time.Time) {
	choice := spread(s.delay, s.policy.jitter)
	tier = choice[rand.IntN(len(choice))]
	if _, made := slices.BinarySearch(p.tiers, tier); made && !s.asked {
		return tier, time.Time{}
	}
	return p.rest(s.delay, now)
}

// rest is wait for what is left of a delay.
func (p *Plan) rest(d time.Duration, now time.Time) (tier time.Duration, due time.Time) {
	tier, enough := p.tier(d)
	if enough {
		return tier, time.Time{}
	}
	return tier, now.Add(d)
}

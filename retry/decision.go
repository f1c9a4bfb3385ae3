package retry

import (
	"math/rand/v2"
	"time"

	"github.com/amqpkit/amqpkit/internal/history"
)

// A decision is what follows a failed attempt: an end of the attempts, or another attempt after a delay.
type decision struct {
	discard bool
	reason  string // for parking, or empty

	delay     time.Duration
	inProcess bool          // the worker waits
	tier      time.Duration // otherwise the wait queue
	due       time.Time     // when the delay has elapsed; zero if that is the end of the stay in the wait queue
}

// decide returns the decision after a failed attempt. age is the time since the first failure. waited is the time for which the
// worker has kept the message between attempts.
func (p *Plan) decide(f *failure, attempt int, now time.Time, age, waited time.Duration) decision {
	policy, ok := f.action.(Policy)
	switch {
	case f.rejected:
		return decision{reason: history.ReasonRejected}
	case !ok && f.action == Discard:
		return decision{discard: true}
	case !ok:
		return decision{reason: history.ReasonRule}
	case f.permanent:
		return decision{reason: history.ReasonPermanent}
	case attempt >= policy.attempts:
		return decision{reason: history.ReasonAttempts}
	}
	delay := policy.delays[min(attempt, len(policy.delays))-1]
	if f.after != nil {
		delay = f.after.delay
	}
	fits := waited+delay <= maxInProcess
	switch {
	case policy.tooOld(delay, age):
		return decision{reason: history.ReasonAge}
	case f.after != nil && (delay > p.longest || len(p.tiers) == 0 && !fits):
		return decision{reason: history.ReasonAfter}
	case p.cfg.MaxInProcessDelay > 0 && delay <= p.cfg.MaxInProcessDelay && (fits || len(p.tiers) == 0):
		if f.after == nil {
			delay = jittered(delay, policy.jitter, rand.Int64N)
		}
		return decision{delay: delay, inProcess: true}
	case f.after == nil && delay > p.cfg.MaxInProcessDelay:
		tiers := spread(delay, policy.jitter)
		tier := tiers[rand.IntN(len(tiers))]
		return decision{delay: tier, tier: tier}
	}
	return p.queued(delay, now)
}

// queued returns the decision to wait for a delay for which there may be no wait queue.
func (p *Plan) queued(delay time.Duration, now time.Time) decision {
	tier, enough := p.tier(delay)
	if enough {
		return decision{delay: tier, tier: tier}
	}
	return decision{delay: delay, tier: tier, due: now.Add(delay)}
}

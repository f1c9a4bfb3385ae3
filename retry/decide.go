package retry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/internal/history"
)

// A step is a move of a message to another queue, or a wait in its worker if queue is empty.
type step struct {
	queue    string
	reason   string        // for parking
	delay    time.Duration // until the next attempt
	due      time.Time     // the end of the delay, if it is longer than the stay in the queue
	repeated bool          // the headers of the delivery contain the move already
}

func (p *Plan) park(reason string) step { return step{queue: p.ParkingQueue(), reason: reason} }

// stay is the step to the wait queue of a delay.
func (p *Plan) stay(tier time.Duration) step {
	return step{queue: history.WaitQueue(p.cfg.Queue, tier), delay: tier}
}

// wait is the step for any delay: to the wait queue with the shortest delay that is not less, if it is at most a quarter
// longer or the shortest of all. Otherwise the message is in the next shorter wait queue first, and waits for the rest afterwards.
func (p *Plan) wait(delay time.Duration, now time.Time) step {
	i, _ := slices.BinarySearch(p.tiers, delay)
	if i == 0 || i < len(p.tiers) && p.tiers[i]-delay <= delay/4 {
		return p.stay(p.tiers[i])
	}
	s := p.stay(p.tiers[i-1])
	s.delay, s.due = delay, now.Add(delay)
	return s
}

// decide returns the step after a failed attempt that was not discarded.
func (m *message) decide(now time.Time) step {
	f, attempt := m.failure, m.record.Attempts
	policy, ok := f.action.(Policy)
	switch {
	case f.rejected:
		return m.park(history.ReasonRejected)
	case !ok:
		return m.park(history.ReasonRule)
	case f.permanent:
		return m.park(history.ReasonPermanent)
	case attempt >= policy.attempts:
		return m.park(history.ReasonAttempts)
	}
	delay := policy.delays[min(attempt, len(policy.delays))-1]
	if f.after != nil {
		delay = f.after.delay
	}
	fits := m.waited+delay <= maxInProcess
	switch {
	case policy.tooOld(delay, now.Sub(m.record.First)):
		return m.park(history.ReasonAge)
	case f.after != nil && (delay > m.longest || len(m.tiers) == 0 && !fits):
		return m.park(history.ReasonAfter)
	case m.cfg.MaxInProcessDelay > 0 && delay <= m.cfg.MaxInProcessDelay && (fits || len(m.tiers) == 0):
		if f.after == nil {
			delay = jittered(delay, policy.jitter, rand.Int64N)
		}
		return step{delay: delay}
	case f.after == nil && delay > m.cfg.MaxInProcessDelay:
		tiers := spread(delay, policy.jitter)
		return m.stay(tiers[rand.IntN(len(tiers))])
	}
	return m.wait(delay, now)
}

// pending returns the step that a message needs before an attempt: the move that its headers contain, or parking if it arrives with as
// many attempts as any policy allows.
func (m *message) pending(ctx context.Context) (s step, ok bool) {
	now := time.Now()
	rest := m.record.Rest(now)
	switch {
	case m.record.Park != "":
		s = m.park(m.record.Park)
		s.repeated, m.record.Park = true, ""
		return s, true
	case m.record.Attempts >= m.attempts:
		return m.park(history.ReasonAttempts), true
	case rest > m.longest: // from another program or another policy
		m.logAt(ctx, slog.LevelWarn, "retry: due time of a message ignored, it exceeds the longest wait of the plan", slog.Duration("delay", rest), slog.Duration("longest", m.longest))
	case rest > 0 && len(m.tiers) > 0:
		s = m.wait(rest, now)
		s.repeated, s.delay = true, rest
		return s, true
	}
	return step{}, false
}

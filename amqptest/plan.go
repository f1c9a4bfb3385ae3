package amqptest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A plan is what is asked for one direction. Its zero value lets everything pass.
type plan struct {
	hold, discard              bool
	holdConfirms, dropConfirms bool
	delay                      time.Duration
	rate                       int // bytes per second
	fragment                   int // bytes per write
	limits                     []*trigger
	points                     []*trigger
}

// with returns the plan with what a narrower choice asks for.
func (p plan) with(q plan) plan {
	p.hold = p.hold || q.hold
	p.discard = p.discard || q.discard
	p.holdConfirms = p.holdConfirms || q.holdConfirms
	p.dropConfirms = p.dropConfirms || q.dropConfirms
	if q.delay > 0 {
		p.delay = q.delay
	}
	if q.rate > 0 {
		p.rate = q.rate
	}
	if q.fragment > 0 {
		p.fragment = q.fragment
	}
	p.limits = slices.Concat(p.limits, q.limits)
	p.points = slices.Concat(p.points, q.points)
	return p
}

// A trigger is a cut that happens once: after some bytes, or at a frame.
type trigger struct {
	fired atomic.Bool
	after int64
	at    CutPoint

	mu    sync.Mutex // one call at a time
	match func(Frame) bool
}

// fire returns true to the first who calls it.
func (t *trigger) fire() bool { return t.fired.CompareAndSwap(false, true) }

// pointAt returns a trigger that fires at this frame, or nil.
func (p plan) pointAt(f Frame) *trigger {
	for _, t := range p.points {
		if !t.fired.Load() && t.matches(f) && t.fire() {
			return t
		}
	}
	return nil
}

func (t *trigger) matches(f Frame) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.match(f)
}

// limitsFrom returns where the plan's CutAfter cut: counted from here, except for those that are known already.
func (p plan) limitsFrom(known []limit, here int64) []limit {
	var limits []limit
	for _, t := range p.limits {
		l := limit{t, here + t.after}
		if i := slices.IndexFunc(known, func(k limit) bool { return k.trigger == t }); i >= 0 {
			l = known[i]
		}
		limits = append(limits, l)
	}
	return limits
}

// armed returns the triggers that have not fired.
func armed(all []*trigger) []*trigger {
	return slices.DeleteFunc(slices.Clone(all), func(t *trigger) bool { return t.fired.Load() })
}

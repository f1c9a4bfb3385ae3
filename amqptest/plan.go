package amqptest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A plan is the combination of all faults of one direction of a link. The zero value forwards everything.
type plan struct {
	pause, blackhole           bool
	holdConfirms, dropConfirms bool
	delay                      time.Duration
	rate                       int // bytes per second
	fragment                   int // bytes per write
	limits                     []*trigger
	points                     []*trigger
}

// with adds the faults of a narrower selection.
func (p plan) with(q plan) plan {
	p.pause = p.pause || q.pause
	p.blackhole = p.blackhole || q.blackhole
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

// A trigger is a cut that happens once, after some bytes or at a frame.
type trigger struct {
	fired atomic.Bool
	after int64
	at    CutPoint

	mu    sync.Mutex // serializes match
	match func(Frame) bool
}

// fire returns true on its first call only.
func (t *trigger) fire() bool { return t.fired.CompareAndSwap(false, true) }

// pointAt returns a trigger that fires at the frame, or nil.
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

// limitsFrom returns the positions at which CutAfter cuts. New ones count from here; known ones keep their position.
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

package amqptest

import (
	"errors"
	"os"
	"time"
)

// A write is abandoned after writeTimeout if the receiver does not read, and retried after a pause that grows to
// maxPause. Meanwhile the other direction continues, and changed faults are noticed.
const (
	writeTimeout = 2 * time.Millisecond
	maxPause     = 16 * time.Millisecond
)

// flush writes everything that is due. It returns the time at which more becomes due, or zero if only a change can make
// it due.
func (p *pump) flush() time.Time {
	p.reportDue(time.Now())
	for {
		if p.dstClosed {
			p.out.drop()
		}
		if p.limit(1) == 0 {
			p.link.proxy.update(p.link.cut)
		}
		if len(p.out.pieces) == 0 || p.stale() {
			return time.Time{}
		}
		next, now := p.out.pieces[0], time.Now()
		if due := next.at.Add(p.plan.delay); p.plan.delay > 0 && due.After(now) {
			return due
		}
		if next.end != open {
			if !p.finish(next.end) {
				return time.Time{}
			}
			continue
		}
		n := p.limit(len(next.data))
		if p.plan.fragment > 0 {
			n = min(n, p.plan.fragment)
		}
		if p.plan.rate > 0 {
			if p.next.After(now) {
				return p.next
			}
			n = min(n, max(1, p.plan.rate/50))
			p.spend(n, now)
		}
		if !p.write(next.data[:n], now) {
			p.pause = min(max(2*p.pause, time.Millisecond), maxPause)
			return now.Add(p.pause)
		}
		p.pause = 0
	}
}

// limit returns how many of n bytes may be written before a CutAfter fires, 0 if it fires now.
func (p *pump) limit(n int) int {
	for _, l := range p.limits {
		left := l.end - p.out.passed
		switch {
		case l.fired.Load(): // on another link
		case left > 0:
			n = int(min(int64(n), left))
		case l.fire():
			return 0
		}
	}
	return n
}

// spend computes when Throttle allows more bytes after n. It compensates for late timers, up to 50 ms.
func (p *pump) spend(n int, now time.Time) {
	if late := now.Add(-50 * time.Millisecond); p.next.Before(late) {
		p.next = late
	}
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.plan.rate))
}

// write writes and reports the resulting events. It returns false if dst currently accepts no more. The lock orders the
// writes of both directions, so that a reply is reported after its request.
func (p *pump) write(b []byte, now time.Time) bool {
	p.link.writeOrder.Lock()
	_ = p.dst.SetWriteDeadline(now.Add(writeTimeout))
	n, err := p.dst.Write(b)
	p.out.wrote(n)
	p.report(now)
	p.link.writeOrder.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	if err != nil {
		p.link.proxy.update(func() {
			p.dstClosed = true
			p.link.closeIfAbandoned()
		})
	}
	return true
}

// reportDue reports events that are due without a write.
func (p *pump) reportDue(now time.Time) {
	if len(p.out.pending) > 0 && p.out.pending[0].end <= p.out.passed {
		p.link.writeOrder.Lock()
		defer p.link.writeOrder.Unlock()
		p.report(now)
	}
}

// report reports the events of everything written by a write that began at the given time. It is called with
// link.writeOrder held.
func (p *pump) report(at time.Time) {
	for _, e := range p.out.due() {
		e.event.At, e.event.Link, e.event.Name = at, p.known.ID, p.known.Name
		p.link.proxy.recorder.record(e.event)
	}
}

// finish forwards the end of the stream. It returns false if a black hole hides the end from dst.
func (p *pump) finish(e streamEnd) bool {
	if e != cut && p.plan.blackhole && !p.bothHungUp {
		return false
	}
	p.out.pieces = p.out.pieces[1:]
	p.link.proxy.update(func() {
		if e != fin {
			p.link.cut()
			return
		}
		_ = p.dst.CloseWrite()
		p.ended = true
		p.link.closeIfAbandoned()
	})
	return true
}

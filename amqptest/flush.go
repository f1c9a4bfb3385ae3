package amqptest

import (
	"errors"
	"os"
	"time"
)

// A write that meets back-pressure is given up after writeTime and tried again after a pause that grows to maxPause.
// Meanwhile the other direction goes on, and a change is noticed.
const (
	writeTime = 2 * time.Millisecond
	maxPause  = 16 * time.Millisecond
)

// flush writes what is due. It returns when more will be, or zero if nothing will be before a change.
func (p *pump) flush() time.Time {
	p.tell(time.Now())
	for {
		if p.deaf {
			p.out.discard()
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
		if next.ending != goesOn {
			if !p.finish(next.ending) {
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

// limit returns how many of n bytes may be written before a CutAfter cuts here, 0 if it does now.
func (p *pump) limit(n int) int {
	for _, l := range p.limits {
		left := l.end - p.out.passed
		switch {
		case l.fired.Load(): // in another link
		case left > 0:
			n = int(min(int64(n), left))
		case l.fire():
			return 0
		}
	}
	return n
}

// spend notes when Throttle lets more pass after n bytes. What a late timer lost is made up for.
func (p *pump) spend(n int, now time.Time) {
	if late := now.Add(-50 * time.Millisecond); p.next.Before(late) {
		p.next = late
	}
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.plan.rate))
}

// write writes and tells what came of it, and returns false if dst takes no more for now. The other direction writes
// before it or after it: so what a peer answers is told after what it answers to.
func (p *pump) write(b []byte, now time.Time) bool {
	p.link.order.Lock()
	_ = p.dst.SetWriteDeadline(now.Add(writeTime))
	n, err := p.dst.Write(b)
	p.out.wrote(n)
	p.tellAll(now)
	p.link.order.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	if err != nil {
		p.link.proxy.update(func() {
			p.deaf = true
			p.link.settle()
		})
	}
	return true
}

// tell tells what is due without a write.
func (p *pump) tell(now time.Time) {
	if len(p.out.marks) > 0 && p.out.marks[0].end <= p.out.passed {
		p.link.order.Lock()
		defer p.link.order.Unlock()
		p.tellAll(now)
	}
}

// tellAll tells the events of all that has been written, which began at a time. It is called with link.order held.
func (p *pump) tellAll(at time.Time) {
	for _, e := range p.out.due() {
		e.event.At, e.event.Link, e.event.Name = at, p.known.ID, p.known.Name
		p.link.proxy.journal.tell(e.event)
	}
}

// finish ends the stream. It returns false if that is to be kept from dst for now.
func (p *pump) finish(e ending) bool {
	if e != cut && p.plan.discard && !p.alone {
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
		p.link.settle()
	})
	return true
}

package amqptest

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// A pump forwards one direction of a link. Fields not marked as guarded belong to its goroutine.
type pump struct {
	link     *link
	from     Direction
	src, dst *net.TCPConn
	wakeup   chan struct{} // signalled by wake

	// Guarded by proxy.mu. Only the pump changes them, except inbox.
	inbox     []insertion
	hungUp    bool // src has closed the stream
	dstClosed bool // dst no longer reads
	ended     bool // src closed the stream and dst was notified

	// The state at the last refresh.
	version    uint64
	plan       plan
	limits     []limit
	known      Link
	bothHungUp bool // both peers closed their streams
	deadline   bool // src may have a read deadline

	scanner
	out   queue
	next  time.Time     // when Throttle allows more bytes
	pause time.Duration // because dst does not read
}

// An insertion is written between two frames of a stream.
type insertion struct {
	bytes   []byte
	channel uint16
	confirm bool // a delayed confirm from the broker
}

// A limit is a CutAfter with its position in this stream.
type limit struct {
	*trigger
	end int64
}

func newPump(l *link, from Direction, src, dst *net.TCPConn, known *channels) *pump {
	return &pump{
		link: l, from: from, src: src, dst: dst, wakeup: make(chan struct{}, 1),
		scanner: scanner{
			tracer: tracer{from: from, link: l.Link, channels: known, contents: map[uint16]*content{}},
			buf:    make([]byte, 64<<10),
		},
	}
}

// run returns when src has closed the stream and dst was notified, or when the link was cut.
func (p *pump) run() {
	for p.refresh() && !p.ended {
		var due time.Time // when more can be written
		if !p.plan.pause {
			p.scan()
			due = p.flush()
			p.out.own()
		}
		if !p.ended {
			p.wait(due)
		}
	}
}

// stale reports whether something changed since refresh.
func (p *pump) stale() bool { return p.version != p.link.proxy.version.Load() }

// refresh reads the current faults. It returns false if the link was cut.
func (p *pump) refresh() bool {
	if !p.stale() {
		return true
	}
	x := p.link.proxy
	x.mu.Lock()
	defer x.mu.Unlock()
	p.version = x.version.Load()
	p.known = p.link.Link
	p.plan = x.planFor(p.known, p.from.ways()[0])
	p.bothHungUp = p.link.pumps[toBroker].hungUp && p.link.pumps[toClient].hungUp
	p.deadline = true // wake set one
	p.limits = p.plan.limitsFrom(p.limits, p.out.passed)
	if !p.plan.holdConfirms {
		p.insertions = append(p.insertions, p.heldConfirms...)
		p.heldConfirms = nil
	}
	p.insertions = append(p.insertions, p.inbox...)
	p.inbox = nil
	return !p.link.closed
}

// wake interrupts the pump. It is called with proxy.mu held, after the version has changed.
func (p *pump) wake() {
	_ = p.src.SetReadDeadline(time.Unix(1, 0))
	select {
	case p.wakeup <- struct{}{}:
	default:
	}
}

// wait returns when there is more to scan or to write, or after a change.
func (p *pump) wait(due time.Time) {
	full := len(p.out.pieces) > 0 && (p.plan.delay == 0 || p.out.size >= maxDelayed)
	if p.plan.pause || p.hungUp || p.closed || full {
		p.sleep(due)
		return
	}
	if p.deadline || !due.IsZero() {
		x := p.link.proxy
		x.mu.Lock()
		stale := p.stale() // otherwise the deadline set by wake would be overwritten
		if !stale {
			_ = p.src.SetReadDeadline(due)
			p.deadline = !due.IsZero()
		}
		x.mu.Unlock()
		if stale {
			return
		}
	}
	switch err := p.read(p.src); {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
	case errors.Is(err, io.EOF):
		p.hangUp(fin)
	default:
		p.hangUp(rst)
	}
}

// hangUp records the end of the stream from src. An incomplete frame is forwarded as it is.
func (p *pump) hangUp(e streamEnd) {
	p.eof, p.raw = e, true
	p.link.proxy.update(func() { p.hungUp = true })
}

func (p *pump) sleep(due time.Time) {
	var timer <-chan time.Time
	if !due.IsZero() {
		timer = time.After(time.Until(due))
	}
	select {
	case <-p.wakeup:
	case <-timer:
	}
}

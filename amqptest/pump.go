package amqptest

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// A pump carries one direction of a link. What is not said to be guarded belongs to its goroutine.
type pump struct {
	link     *link
	from     Direction
	src, dst *net.TCPConn
	kick     chan struct{} // by wake

	// Guarded by proxy.mu, and changed by the pump alone except for inbox.
	inbox  []parcel
	hungUp bool // src has: nothing more will come
	deaf   bool // dst takes nothing more
	ended  bool // src hung up, and dst was told

	// What was asked for when refresh last looked.
	version  uint64
	plan     plan
	limits   []limit
	known    Link
	alone    bool // both peers have hung up
	deadline bool // src may have a read deadline

	scanner
	out   queue
	next  time.Time     // when Throttle lets more pass
	pause time.Duration // because dst takes nothing
}

// A parcel is something to be put between the frames of a stream.
type parcel struct {
	bytes   []byte
	channel uint16
	confirm bool // it came from the broker and was kept back
}

// A limit is a CutAfter, with the place in this stream where it cuts.
type limit struct {
	*trigger
	end int64
}

func newPump(l *link, from Direction, src, dst *net.TCPConn, known *channels) *pump {
	return &pump{
		link: l, from: from, src: src, dst: dst, kick: make(chan struct{}, 1),
		scanner: scanner{
			tracer: tracer{from: from, link: l.Link, channels: known, contents: map[uint16]*content{}},
			buf:    make([]byte, 64<<10),
		},
	}
}

// run returns when src has hung up and dst knows it, or when the link is cut.
func (p *pump) run() {
	for p.refresh() && !p.ended {
		var due time.Time // when more can be written
		if !p.plan.hold {
			p.scan()
			due = p.flush()
			p.out.keep()
		}
		if !p.ended {
			p.wait(due)
		}
	}
}

// stale tells that something has changed since refresh.
func (p *pump) stale() bool { return p.version != p.link.proxy.version.Load() }

// refresh looks what is asked for. It returns false if the link was cut.
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
	p.alone = p.link.pumps[toBroker].hungUp && p.link.pumps[toClient].hungUp
	p.deadline = true // wake has set one
	p.limits = p.plan.limitsFrom(p.limits, p.out.passed)
	if !p.plan.holdConfirms {
		p.parcels = append(p.parcels, p.kept...)
		p.kept = nil
	}
	p.parcels = append(p.parcels, p.inbox...)
	p.inbox = nil
	return !p.link.over
}

// wake makes the pump look again, whatever it waits for. It is called with proxy.mu held and the version changed.
func (p *pump) wake() {
	_ = p.src.SetReadDeadline(time.Unix(1, 0))
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// wait returns when there is more to scan, when more can be written, or after a change.
func (p *pump) wait(due time.Time) {
	full := len(p.out.pieces) > 0 && (p.plan.delay == 0 || p.out.size >= maxDelayed)
	if p.plan.hold || p.hungUp || p.closed || full {
		p.sleep(due)
		return
	}
	if p.deadline || !due.IsZero() {
		x := p.link.proxy
		x.mu.Lock()
		stale := p.stale() // or the deadline that wake has set would be lost
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

// hangUp notes that src has ended the stream. A frame that is not whole passes as it is.
func (p *pump) hangUp(e ending) {
	p.eof, p.raw = e, true
	p.link.proxy.update(func() { p.hungUp = true })
}

func (p *pump) sleep(due time.Time) {
	var timer <-chan time.Time
	if !due.IsZero() {
		timer = time.After(time.Until(due))
	}
	select {
	case <-p.kick:
	case <-timer:
	}
}

package amqptest

import (
	"io"
	"slices"
)

// maxFrame is how long a frame may be that is looked at, as it is on the wire. A longer one passes as bytes, so that
// nobody makes the proxy allocate what he claims to send. RabbitMQ's default frame_max is 128 KiB.
const maxFrame = 1 << 20

// A scanner cuts a stream into frames. It waits for the whole of those that are looked at: methods, content headers
// and, for CutAt, bodies. Other bytes go on as they come.
type scanner struct {
	tracer tracer
	buf    []byte
	in     []byte // what is read and not scanned, a part of buf
	raw    bool   // it is not AMQP (any more): bytes, no frames
	skip   int64  // how much of a frame is to come that was judged already
	drop   bool   // that it does not go on
	eof    ending // src hung up this way, after what is in
	closed bool   // the end is in the queue

	kept    []parcel // by HoldConfirms
	parcels []parcel // to go out at the next opportunity
}

// read reads what there is into the buffer, which grows if a frame to look at fills it.
func (s *scanner) read(src io.Reader) error {
	n := copy(s.buf, s.in)
	if n == len(s.buf) {
		s.buf = slices.Grow(s.buf, n)[:2*n]
	}
	m, err := src.Read(s.buf[n:])
	s.in = s.buf[:n+m]
	return err
}

func (s *scanner) take(n int64) []byte {
	b := s.in[:n]
	s.in = s.in[n:]
	return b
}

// scan moves what goes on from the input to the queue.
func (p *pump) scan() {
	for !p.closed && !p.stale() {
		if p.skip == 0 {
			p.unpack()
		}
		switch {
		case len(p.in) > 0:
			if !p.step() {
				return
			}
		case p.eof != goesOn:
			p.out.finish(p.eof)
			p.closed = true
		default:
			return
		}
	}
}

// unpack passes the parcels on, in their order, as far as the content of messages allows.
func (p *pump) unpack() {
	for len(p.parcels) > 0 && (p.raw || !p.tracer.amidContent(p.parcels[0].channel)) {
		next := p.parcels[0]
		p.parcels = p.parcels[1:]
		if next.confirm {
			f, size, _ := nextFrame(next.bytes)
			p.trace(f, size)
		}
		p.out.put(next.bytes)
	}
}

// step scans one frame, or a part of it. It returns false if more has to be read first.
func (p *pump) step() bool {
	if p.skip > 0 {
		b := p.take(min(p.skip, int64(len(p.in))))
		p.skip -= int64(len(b))
		if !p.drop {
			p.out.put(b)
		}
		return true
	}
	if p.raw {
		p.skip, p.drop = int64(len(p.in)), p.plan.discard
		return true
	}
	if p.in[0] == protocolHeader[0] { // which is no frame's type
		p.skip, p.drop = int64(len(protocolHeader)), p.plan.discard
		return true
	}
	f, size, err := nextFrame(p.in)
	switch {
	case err != nil:
		p.raw = true
	case size == 0:
		return false
	case int64(len(p.in)) >= size:
		p.judge(f, p.take(size))
	case size > maxFrame, f.Type == FrameBody && len(p.plan.points) == 0:
		p.skip, p.drop = size, p.plan.discard
		if !p.drop {
			p.trace(f, size)
		}
	default:
		return false
	}
	return true
}

// judge decides about a whole frame.
func (p *pump) judge(f Frame, b []byte) {
	if p.plan.discard {
		return
	}
	if t := p.plan.pointAt(f); t != nil {
		switch t.at {
		case InsideFrame:
			p.out.put(b[:len(b)/2])
		case AfterFrame:
			p.trace(f, int64(len(b)))
			p.out.put(b)
		}
		p.out.finish(cut)
		p.closed = true
		return
	}
	if (p.plan.dropConfirms || p.plan.holdConfirms) && IsConfirm(f) { // only asked for from the broker
		if !p.plan.dropConfirms {
			p.kept = append(p.kept, parcel{bytes: slices.Clone(b), channel: f.Channel, confirm: true})
		}
		p.out.mark(p.tracer.withheld(f), 0)
		return
	}
	p.trace(f, int64(len(b)))
	p.out.put(b)
}

// trace notes what happens when a frame, which is put into the queue next, has been written.
func (p *pump) trace(f Frame, size int64) {
	known := p.tracer.link
	for _, e := range p.tracer.frame(f, size) {
		p.out.mark(e, size)
	}
	if now := p.tracer.link; now != known {
		p.link.proxy.update(func() { p.link.Link = now })
	}
}

package amqptest

import (
	"io"
	"slices"
)

// maxFrame is the largest encoded frame that is evaluated. Larger ones are forwarded as bytes, so that a sender cannot
// make the proxy allocate the size it claims. RabbitMQ's default frame_max is 128 KiB.
const maxFrame = 1 << 20

// A scanner splits a stream into frames. It waits for complete method and header frames, and for CutAt also body
// frames. Other bytes are forwarded as they arrive.
type scanner struct {
	tracer tracer
	buf    []byte
	in     []byte    // read but not yet scanned, aliases buf
	raw    bool      // the stream is not AMQP, or no longer
	skip   int64     // remaining bytes of a frame that was already handled
	drop   bool      // the remaining bytes are discarded
	eof    streamEnd // how src closed the stream after in
	closed bool      // the end is in the queue

	heldConfirms []insertion // held by HoldConfirms
	insertions   []insertion // to be written at the next opportunity
}

// read reads available bytes. It grows the buffer if an incomplete frame fills it.
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

// scan moves input to the queue.
func (p *pump) scan() {
	for !p.closed && !p.stale() {
		if p.skip == 0 {
			p.insertPending()
		}
		switch {
		case len(p.in) > 0:
			if !p.step() {
				return
			}
		case p.eof != open:
			p.out.finish(p.eof)
			p.closed = true
		default:
			return
		}
	}
}

// insertPending moves insertions to the queue, in order, up to one that would split the content of a message.
func (p *pump) insertPending() {
	for len(p.insertions) > 0 && (p.raw || !p.tracer.inContent(p.insertions[0].channel)) {
		next := p.insertions[0]
		p.insertions = p.insertions[1:]
		if next.confirm {
			f, size, _ := nextFrame(next.bytes)
			p.trace(f, size)
		}
		p.out.put(next.bytes)
	}
}

// step handles one frame or a part of it. It returns false if more input is needed.
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
		p.skip, p.drop = int64(len(p.in)), p.plan.blackhole
		return true
	}
	if p.in[0] == protocolHeader[0] { // not a frame type
		p.skip, p.drop = int64(len(protocolHeader)), p.plan.blackhole
		return true
	}
	f, size, err := nextFrame(p.in)
	switch {
	case err != nil:
		p.raw = true
	case size == 0:
		return false
	case int64(len(p.in)) >= size:
		p.handleFrame(f, p.take(size))
	case size > maxFrame, f.Type == FrameBody && len(p.plan.points) == 0:
		p.skip, p.drop = size, p.plan.blackhole
		if !p.drop {
			p.trace(f, size)
		}
	default:
		return false
	}
	return true
}

// handleFrame applies the faults to a complete frame.
func (p *pump) handleFrame(f Frame, b []byte) {
	if p.plan.blackhole {
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
	if (p.plan.dropConfirms || p.plan.holdConfirms) && IsConfirm(f) { // set only from the broker
		if !p.plan.dropConfirms {
			p.heldConfirms = append(p.heldConfirms, insertion{bytes: slices.Clone(b), channel: f.Channel, confirm: true})
		}
		p.out.expect(p.tracer.heldConfirm(f), 0)
		return
	}
	p.trace(f, int64(len(b)))
	p.out.put(b)
}

// trace adds the events of a frame that is queued next.
func (p *pump) trace(f Frame, size int64) {
	known := p.tracer.link
	for _, e := range p.tracer.frame(f, size) {
		p.out.expect(e, size)
	}
	if now := p.tracer.link; now != known {
		p.link.proxy.update(func() { p.link.Link = now })
	}
}

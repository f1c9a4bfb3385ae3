package wire

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
)

// A Transport is what amqp091-go reads and writes: a [Link], or TLS over one. It has no
// deadlines to set, since the Link's are its own, and passes on no confirm that would make
// amqp091-go count without end.
type Transport struct {
	conn    net.Conn
	written atomic.Uint64
	frames  frames
	end     atomic.Pointer[error] // of reading
}

// NewTransport makes the Transport of a link, or of a TLS connection over it.
func NewTransport(conn net.Conn) *Transport { return &Transport{conn: conn} }

func (t *Transport) Read(b []byte) (int, error) {
	n, err := t.conn.Read(b)
	if err != nil {
		t.end.CompareAndSwap(nil, &err)
		return n, err
	}
	if tag := t.frames.scan(b[:n]); tag > t.written.Load()/smallestPublish {
		_ = t.conn.Close()
		return 0, fmt.Errorf("the broker confirmed a message %d that was never sent", tag)
	}
	return n, nil
}

func (t *Transport) Write(b []byte) (int, error) {
	t.written.Add(uint64(len(b)))
	return t.conn.Write(b)
}

// Err returns why reading ended, or nil. amqp091-go passes on no more than the text of it, and not
// that to a call which comes later.
func (t *Transport) Err() error {
	if err := t.end.Load(); err != nil {
		return *err
	}
	return nil
}

// Close closes the socket.
func (t *Transport) Close() error { return t.conn.Close() }

// LocalAddr is the link's, for [Kill].
func (t *Transport) LocalAddr() net.Addr { return t.conn.LocalAddr() }

// RemoteAddr is the broker's address.
func (t *Transport) RemoteAddr() net.Addr { return t.conn.RemoteAddr() }

// ConnectionState returns what TLS negotiated, for amqp.Connection's method of that name.
func (t *Transport) ConnectionState() tls.ConnectionState {
	if c, ok := t.conn.(*tls.Conn); ok {
		return c.ConnectionState()
	}
	return tls.ConnectionState{}
}

const (
	frameHeader  = 7 // type, channel, size (AMQP 0-9-1, 2.3.5)
	frameEnd     = 1
	methodFrame  = 1
	confirmSize  = 4 + 8 // class and method id, delivery tag
	basicAck     = 60<<16 | 80
	basicNack    = 60<<16 | 120
	publishFrame = frameHeader + 4 + 2 + 1 + 1 + 1 + frameEnd // to the default exchange, with an empty key
	contentFrame = frameHeader + 2 + 2 + 8 + 2 + frameEnd     // the header of an empty body

	// smallestPublish is the fewest bytes that a message takes on the wire. A confirm of a tag
	// that needed more bytes than were written is bogus, and amqp091-go would count up to it.
	smallestPublish = publishFrame + contentFrame
)

// frames follows the frames in a stream, of which it is shown piece after piece.
type frames struct {
	head [frameHeader + confirmSize]byte // of the current frame, as much as matters
	have int                             // bytes of it
	skip int                             // bytes of the current frame that do not matter, still to come
}

// scan returns the highest delivery tag confirmed in b, or 0.
func (f *frames) scan(b []byte) (highest uint64) {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip -= n
			b = b[n:]
			continue
		}
		want := frameHeader
		if f.have >= frameHeader {
			want += min(f.size(), confirmSize)
		}
		n := copy(f.head[f.have:want], b)
		f.have += n
		b = b[n:]
		if f.have < frameHeader || f.have < frameHeader+min(f.size(), confirmSize) {
			continue
		}
		highest = max(highest, f.confirmed())
		f.skip = f.size() - min(f.size(), confirmSize) + frameEnd
		f.have = 0
	}
	return highest
}

func (f *frames) size() int { return int(binary.BigEndian.Uint32(f.head[3:])) }

// confirmed returns the tag if the frame confirms messages.
func (f *frames) confirmed() uint64 {
	if f.head[0] != methodFrame || f.size() < confirmSize {
		return 0
	}
	switch binary.BigEndian.Uint32(f.head[frameHeader:]) {
	case basicAck, basicNack:
		return binary.BigEndian.Uint64(f.head[frameHeader+4:])
	}
	return 0
}

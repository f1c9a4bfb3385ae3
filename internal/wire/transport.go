package wire

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A Transport is what amqp091-go reads and writes: a [Link], or TLS over one. It has no
// deadlines to set, since the Link's are its own, and passes on no confirm that would make
// amqp091-go count without end. It reads in large pieces, and writes what a [Batch] holds
// back in one.
type Transport struct {
	conn    net.Conn
	written atomic.Uint64
	in      *bufio.Reader
	frames  frames
	end     atomic.Pointer[error]  // of reading
	first   atomic.Pointer[string] // what was read first

	mu   sync.Mutex // held while writing
	held int        // batches that have begun
	out  []byte     // held back
	err  error      // of writing, for good
}

const (
	readSize  = 64 << 10 // bytes; amqp091-go reads 4 KiB at a time
	batchSize = 32 << 10 // bytes that are held back at most
)

// NewTransport makes the Transport of a link, or of a TLS connection over it.
func NewTransport(conn net.Conn) *Transport {
	return &Transport{conn: conn, in: bufio.NewReaderSize(conn, readSize)}
}

func (t *Transport) Read(b []byte) (int, error) {
	n, err := t.in.Read(b)
	if n > 0 && t.first.Load() == nil {
		first := string(b[:min(n, 8)])
		t.first.Store(&first)
	}
	if err != nil {
		end := err // which is kept; err itself is then no allocation
		t.end.CompareAndSwap(nil, &end)
		return n, err
	}
	if tag := t.frames.scan(b[:n]); tag > t.written.Load()/smallestPublish {
		_ = t.conn.Close()
		return 0, fmt.Errorf("the broker confirmed a message %d that was never sent", tag)
	}
	return n, nil
}

func (t *Transport) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written.Add(uint64(len(b)))
	if t.held > 0 && len(t.out)+len(b) <= batchSize {
		t.out = append(t.out, b...)
		return len(b), t.err
	}
	t.flush()
	return t.write(b)
}

// flush writes what is held back. It is called with mu held, as write is.
func (t *Transport) flush() {
	if len(t.out) > 0 {
		_, _ = t.write(t.out)
		t.out = t.out[:0]
	}
}

func (t *Transport) write(b []byte) (n int, err error) {
	if t.err == nil {
		n, t.err = t.conn.Write(b)
	}
	return n, t.err
}

// BatchOn returns a Batch on ac, which does nothing if amqpkit did not dial it.
func BatchOn(ac *amqp.Connection) *Batch {
	a, _ := ac.LocalAddr().(transportAddr)
	return &Batch{t: a.transport}
}

// A Batch holds back what is written on a connection, by whomever, to write it at once: a write
// costs more than what it writes. It must not be held while waiting for an answer.
type Batch struct {
	t     *Transport
	begun bool
}

// Begin holds back what is written from now on, if it does not yet.
func (b *Batch) Begin() {
	if b.t == nil || b.begun {
		return
	}
	b.begun = true
	b.t.mu.Lock()
	defer b.t.mu.Unlock()
	b.t.held++
}

// End writes what was held back, if it was. A failure closes the link, which the reader tells of.
func (b *Batch) End() {
	if !b.begun {
		return
	}
	b.begun = false
	b.t.mu.Lock()
	defer b.t.mu.Unlock()
	b.t.held--
	b.t.flush()
}

// Foreign returns the protocol that the peer answered in, if it is known and another one than AMQP 0-9-1.
func (t *Transport) Foreign() string {
	p := t.first.Load()
	if p == nil {
		return ""
	}
	switch first := *p; {
	case strings.HasPrefix(first, "HTTP/"):
		return "HTTP"
	case strings.HasPrefix(first, "AMQP"):
		return "another version of AMQP"
	case strings.HasPrefix(first, "\x15\x03"):
		return "TLS"
	case strings.HasPrefix(first, "SSH-"):
		return "SSH"
	case strings.HasPrefix(first, "ERROR"):
		return "STOMP"
	}
	return ""
}

// Err returns why reading ended, or nil. amqp091-go passes on no more than the text of it, and not
// that to a call which comes later.
func (t *Transport) Err() error {
	if err := t.end.Load(); err != nil {
		return *err
	}
	return nil
}

// Close closes the socket, after the last words that may be held back.
func (t *Transport) Close() error {
	if t.mu.TryLock() { // nobody writes
		t.flush()
		t.mu.Unlock()
	}
	return t.conn.Close()
}

// LocalAddr is the link's address. It carries the Transport, for [Batch], [Kill] and [GateOf].
func (t *Transport) LocalAddr() net.Addr { return transportAddr{t.conn.LocalAddr(), t} }

type transportAddr struct {
	net.Addr
	transport *Transport
}

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

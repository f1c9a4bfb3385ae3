package wire

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A Transport is the connection that amqp091-go reads and writes: a [Link], or TLS over one. It sets no deadlines, because
// the Link sets its own. It inspects the frames that the broker sends. A confirm of a message that was never sent would
// make amqp091-go count indefinitely, and amqp091-go would close the connection over a content header that it cannot read,
// see [Unreadable]. The Transport reads in large pieces, and writes the frames of a [Batch] together.
type Transport struct {
	conn     net.Conn
	written  atomic.Uint64
	frameMax atomic.Int64
	end      atomic.Pointer[error]  // of reading
	first    atomic.Pointer[string] // the first bytes that were read

	// Owned by the reader.
	in      *bufio.Reader
	passed  int    // bytes at the front of in that were inspected
	instead []byte // of a replaced frame, to be returned before them
	read    uint64 // bytes returned

	confirms confirms

	mu     sync.Mutex // held while writing
	held   int        // batches that have begun
	out    []byte     // held back
	frames frames     // that amqp091-go writes
	ended  bool       // the end of the current frame was written before amqp091-go wrote it
	err    error      // of writing, for good
}

const (
	readSize  = 128 << 10 // bytes; a frame of the largest size fits, and amqp091-go reads 4 KiB at a time
	batchSize = 32 << 10  // bytes that are held back at most
)

// NewTransport makes the Transport of a link, or of a TLS connection over it.
func NewTransport(conn net.Conn) *Transport {
	t := &Transport{conn: conn, in: bufio.NewReaderSize(conn, readSize), frames: frames{rest: protocolHeader}}
	t.SetFrameMax(readSize)
	return t
}

// SetFrameMax sets the negotiated size of frames in bytes, readSize at most: amqp091-go refuses a larger one.
func (t *Transport) SetFrameMax(bytes int) { t.frameMax.Store(int64(min(bytes, readSize))) }

func (t *Transport) Read(b []byte) (int, error) {
	if len(t.confirms.seen) > 0 {
		t.confirms.report(t.read)
	}
	if t.passed == 0 && len(t.instead) == 0 {
		if err := t.inspect(); err != nil {
			return 0, err
		}
	}
	if len(t.instead) > 0 {
		n := copy(b, t.instead)
		t.instead = t.instead[n:]
		t.read += uint64(n)
		return n, nil
	}
	n, err := t.in.Read(b[:min(len(b), t.passed)])
	t.passed -= n
	t.read += uint64(n)
	if n > 0 && t.first.Load() == nil {
		first := string(b[:min(n, 8)])
		t.first.Store(&first)
	}
	if err != nil {
		t.setEnd(err)
	}
	return n, err
}

func (t *Transport) setEnd(err error) { t.end.CompareAndSwap(nil, &err) }

// inspect waits for the next frame and lets it pass, along with those behind it that are in the buffer.
func (t *Transport) inspect() error {
	if err := t.end.Load(); err != nil {
		return *err
	}
	b, err := t.ahead(frameHeader)
	at := 0
	for err == nil && at < len(b) {
		f := b[at:]
		need := needed(f)
		if need > len(f) {
			if at > 0 {
				break
			}
			if need > readSize {
				return t.replaceLarge(need)
			}
			b, err = t.ahead(need)
			continue
		}
		if problem := t.check(f, need, at); problem != nil {
			if at > 0 { // the frames before it come first
				break
			}
			return t.refuse(f[:need], problem)
		}
		at += frameSize(f)
	}
	if err != nil {
		t.setEnd(err)
		if at = len(b); at == 0 {
			return err
		}
	}
	t.passed = at
	return nil
}

// ahead waits for n bytes, and returns all bytes in the buffer.
func (t *Transport) ahead(n int) ([]byte, error) {
	_, err := t.in.Peek(n)
	b, _ := t.in.Peek(t.in.Buffered())
	return b, err
}

// check returns why a frame must not pass. f contains at least the first need bytes of the frame, which begins at bytes
// after the ones that amqp091-go has read.
func (t *Transport) check(f []byte, need, at int) error {
	switch {
	case f[0] == methodFrame && need > frameHeader:
		tag, multiple := confirmed(f[:need])
		switch {
		case tag > t.written.Load()/smallestPublish:
			return confirmError(tag)
		case tag > 0 && !multiple:
			t.confirms.see(tag, t.read+uint64(at+frameSize(f))) //nolint:gosec // not negative
		}
	case f[0] == contentFrame && need > frameHeader:
		if int64(need) > t.frameMax.Load() {
			return errFrameSize
		}
		return checkContent(f[:need])
	}
	return nil
}

// refuse replaces a content header that amqp091-go would not read, and closes the connection for another frame.
func (t *Transport) refuse(f []byte, problem error) error {
	if _, ok := errors.AsType[confirmError](problem); ok {
		_ = t.conn.Close()
		t.setEnd(problem)
		return problem
	}
	t.instead = replaceContent(f, problem)
	_, err := t.in.Discard(len(f))
	return err
}

// replaceLarge replaces a content header of n bytes that does not fit into the buffer.
func (t *Transport) replaceLarge(n int) error {
	var f bytes.Buffer // grows with the received bytes, whatever size the frame declares
	if _, err := io.CopyN(&f, t.in, int64(n)); err != nil {
		t.setEnd(err)
		return err
	}
	t.instead = replaceContent(f.Bytes(), errFrameSize)
	return nil
}

func (t *Transport) Write(b []byte) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written.Add(uint64(len(b)))
	payload := t.frames.write(b)
	if t.ended && len(b) > 0 {
		b, n, t.ended = b[frameEnd:], frameEnd, false
	}
	if len(b) == 0 {
		return n, t.err
	}
	if t.held > 0 && len(t.out)+len(b) <= batchSize {
		t.out = append(t.out, b...)
		return n + len(b), t.err
	}
	var end []byte
	if _, plain := t.conn.(*Link); plain && payload {
		end, t.ended = endOfFrame, true
	}
	m, err := t.write(b, end)
	return n + m, err
}

// flush writes the held-back bytes. It is called with mu held, as write is.
func (t *Transport) flush() {
	if len(t.out) > 0 {
		_, _ = t.write(nil, nil)
	}
}

// write writes the held-back bytes, b and end, in one system call if there is no TLS. b is not copied. amqp091-go writes a
// large payload and the end of its frame separately, so that a message would cost a further system call. write returns the number of
// bytes of b.
func (t *Transport) write(b, end []byte) (n int, err error) {
	out := t.out
	t.out = t.out[:0]
	if t.err != nil {
		return 0, t.err
	}
	if l, ok := t.conn.(*Link); ok && len(out)+len(end) > 0 && len(b) > 0 {
		var all int64
		all, t.err = l.writeAll(out, b, end)
		return min(max(0, int(all)-len(out)), len(b)), t.err
	}
	if len(out) > 0 {
		_, t.err = t.conn.Write(out)
	}
	if len(b) > 0 && t.err == nil {
		n, t.err = t.conn.Write(b)
	}
	return n, t.err
}

// BatchOn returns a Batch on ac, which does nothing if amqpkit did not dial it.
func BatchOn(ac *amqp.Connection) *Batch {
	a, _ := ac.LocalAddr().(transportAddr)
	return &Batch{t: a.transport}
}

// A Batch holds back all writes on a connection, in order to combine them: one write of many frames costs much less than
// many writes. It must not be held while waiting for an answer.
type Batch struct {
	t     *Transport
	begun bool
}

// Begin starts to hold back writes, if it has not started yet.
func (b *Batch) Begin() {
	if b.t == nil || b.begun {
		return
	}
	b.begun = true
	b.t.mu.Lock()
	defer b.t.mu.Unlock()
	b.t.held++
}

// End writes the bytes that were held back. A failure closes the link, which the reader reports.
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

// Foreign returns the protocol of the peer's answer if it is a known one other than AMQP 0-9-1.
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

// Err returns why reading ended, or nil. amqp091-go passes on only its text, and only to calls that are in progress.
func (t *Transport) Err() error {
	if err := t.end.Load(); err != nil {
		return *err
	}
	return nil
}

// Close writes the bytes that are held back and closes the socket.
func (t *Transport) Close() error {
	if t.mu.TryLock() { // no write is in progress
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
	frameEndMark = 0xCE
	methodFrame  = 1
	contentFrame = 2     // the content header
	confirmSize  = 4 + 8 // class and method id, delivery tag; the flag multiple follows
	basicAck     = 60<<16 | 80
	basicNack    = 60<<16 | 120
	publishSize  = frameHeader + 4 + 2 + 1 + 1 + 1 + frameEnd // to the default exchange, with an empty key

	contentFixed   = 2 + 2 + 8 + 2                         // class, weight, body size, flags: the header of an empty body
	contentMinimum = frameHeader + contentFixed + frameEnd // bytes of its frame
	contentMost    = 16 << 20                              // bytes of one that is read in order to be replaced

	// smallestPublish is the fewest bytes that a message takes on the wire. A confirm of a tag
	// that needed more bytes than were written is bogus, and amqp091-go would count up to it.
	smallestPublish = publishSize + contentMinimum
)

var endOfFrame = []byte{frameEndMark}

// A confirmError is the delivery tag of a confirm for a message that was never sent.
type confirmError uint64

func (tag confirmError) Error() string {
	return fmt.Sprintf("the broker confirmed a message %d that was never sent", uint64(tag))
}

// frameSize returns the size of the frame at the start of f, in bytes.
func frameSize(f []byte) int { return frameHeader + payloadSize(f) + frameEnd }

func payloadSize(f []byte) int { return int(binary.BigEndian.Uint32(f[3:])) }

// needed returns how many bytes of the frame at the start of f are needed to check it.
func needed(f []byte) int {
	if len(f) < frameHeader {
		return frameHeader
	}
	switch n := payloadSize(f); {
	case f[0] == methodFrame && n >= confirmSize:
		return frameHeader + min(n, confirmSize+1)
	case f[0] == contentFrame && n >= contentFixed && n <= contentMost:
		return frameSize(f)
	}
	return frameHeader
}

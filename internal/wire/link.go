package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Link is the socket under one AMQP connection. It sets deadlines in both directions.
//
// amqp091-go writes without a deadline, and waits for a stuck writer's locks before it closes the
// socket. It clears the read deadline after the handshake and sets one again only after it has read a frame. So the Link
// sets both deadlines, and the first failure in either direction closes the socket, which unblocks the other direction.
//
// LocalAddr leads from an *amqp.Connection to its Link, because amqp091-go and crypto/tls pass it
// through to the socket.
type Link struct {
	net.Conn
	Gate Gate // whether the broker blocks publishing

	silence        atomic.Int64 // how long the peer may be silent; 0: without a limit
	heard, written time.Time    // when the deadlines were set; owned by the reader and the writer
	watchdog       *time.Timer  // kills the link if the reader stops reading

	buffers net.Buffers // of writeAll; a field because a variable would be allocated for each call
	array   [3][]byte   // of buffers
}

// NewLink wraps a new socket. It sets no deadlines before Bound is called; the caller must bound the handshake.
func NewLink(nc net.Conn) *Link {
	l := &Link{Conn: nc}
	l.watchdog = time.AfterFunc(time.Hour, l.Kill)
	l.watchdog.Stop()
	return l
}

// slower is the ratio of the time to accept written bytes to the time to send any. The peer's heartbeats show that it is
// alive. Its progress in reading is visible late and in large steps, because of the buffers in between.
const slower = 4

// Bound kills the link from now on if the peer sends nothing for d, or accepts no written bytes for four times d. While
// the broker blocks publishing, a write may take any time, because the broker then does not read.
func (l *Link) Bound(d time.Duration) {
	l.silence.Store(int64(d))
	_ = l.SetReadDeadline(time.Now().Add(d))
}

func (l *Link) bound() time.Duration { return time.Duration(l.silence.Load()) }

// listen sets the deadline of the next read, and the watchdog for a reader that never reads again:
// amqp091-go's reader blocks indefinitely on an answer without a request.
func (l *Link) listen(until time.Time) error {
	l.watchdog.Reset(time.Until(until) * 5 / 4)
	return l.SetReadDeadline(until)
}

// extend moves a deadline to d from now if a part of it has passed. Setting it each time would cost as much as a
// small read.
func extend(last *time.Time, d time.Duration, set func(time.Time) error) {
	if now := time.Now(); d > 0 && now.Sub(*last) > d/16 {
		*last = now
		_ = set(now.Add(d))
	}
}

func (l *Link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("nothing was heard from the broker for %v: %w", l.bound(), err)
		}
		l.Kill()
		return n, err
	}
	extend(&l.heard, l.bound(), l.listen)
	return n, nil
}

func (l *Link) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		extend(&l.written, slower*l.bound(), l.SetWriteDeadline)
		var m int
		m, err = l.Conn.Write(b[n:])
		n += m
		err = l.afterWrite(m, err)
	}
	return n, err
}

// writeAll writes a, b and c. A TCP socket takes all of them in one system call (writev).
func (l *Link) writeAll(a, b, c []byte) (n int64, err error) {
	l.buffers = append(l.array[:0], a, b, c)
	for len(l.buffers) > 0 && err == nil {
		extend(&l.written, slower*l.bound(), l.SetWriteDeadline)
		var m int64
		m, err = l.buffers.WriteTo(l.Conn)
		n += m
		err = l.afterWrite(int(m), err)
	}
	l.array = [3][]byte{}
	return n, err
}

// afterWrite returns nil if the write that wrote n bytes succeeded or can be continued. Otherwise it closes the socket.
func (l *Link) afterWrite(n int, err error) error {
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case err == nil:
		return nil
	case late && (n > 0 || l.Gate.Err() != nil):
		l.written = time.Time{}
		return nil //nolint:nilerr // the broker makes progress, or does not read because it blocks publishing
	case late:
		err = fmt.Errorf("the broker accepted no bytes for %v: %w", slower*l.bound(), err)
	}
	l.Kill()
	return err
}

// LocalAddr returns the socket's address. It carries the Link, for Kill.
func (l *Link) LocalAddr() net.Addr { return linkAddr{l.Conn.LocalAddr(), l} }

// Kill closes the socket at once. All calls that wait on it fail.
func (l *Link) Kill() { _ = l.Close() }

// Close closes the socket.
func (l *Link) Close() error {
	l.watchdog.Stop()
	return l.Conn.Close()
}

type linkAddr struct {
	net.Addr
	link *Link
}

func linkOf(ac *amqp.Connection) *Link {
	addr := ac.LocalAddr()
	if a, ok := addr.(transportAddr); ok {
		addr = a.Addr
	}
	if a, ok := addr.(linkAddr); ok {
		return a.link
	}
	return nil // amqpkit did not dial it
}

// Kill closes the socket under ac at once, without notifying the broker. It does not block.
func Kill(ac *amqp.Connection) {
	if l := linkOf(ac); l != nil {
		l.Kill()
		return
	}
	// The deadline fails its reads and writes.
	go func() { _ = ac.CloseDeadline(time.Now()) }()
}

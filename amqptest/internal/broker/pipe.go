package broker

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeSize is the buffer of a connection in memory, similar to the buffers of a TCP connection.
const pipeSize = 256 << 10

// pipe returns the two ends of a connection in memory. Unlike net.Pipe it has buffers and can be reset.
func pipe() (client, server net.Conn) {
	up, down := newStream(), newStream()
	return &end{in: down, out: up}, &end{in: up, out: down}
}

// A stream is one direction of a pipe. It blocks on channels and timers, which testing/synctest recognizes.
type stream struct {
	mu      sync.Mutex
	buf     []byte
	eof     bool // the writer has closed
	gone    bool // the reader has closed
	reset   bool
	changed chan struct{}
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

func (s *stream) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait returns after a change, or with an error when the deadline has passed.
func (s *stream) wait(d *deadline) error {
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-d.passed():
		return os.ErrDeadlineExceeded
	}
}

// A deadline closes a channel when its time has passed.
type deadline struct {
	mu    sync.Mutex
	at    time.Time // zero for none
	timer *time.Timer
	c     chan struct{}
}

// elapsed reports whether the time has passed, even if the timer has not fired yet.
func (d *deadline) elapsed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !time.Now().Before(d.at)
}

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.c == nil {
		d.c = make(chan struct{})
	}
	return d.c
}

// set changes the deadline, also for waits in progress.
func (d *deadline) set(t time.Time, wake func()) {
	d.mu.Lock()
	if d.timer != nil {
		d.timer.Stop()
	}
	c := make(chan struct{})
	d.at, d.c, d.timer = t, c, nil
	if !t.IsZero() {
		if until := time.Until(t); until > 0 {
			d.timer = time.AfterFunc(until, func() { close(c) })
		} else {
			close(c)
		}
	}
	d.mu.Unlock()
	wake()
}

// An end is one end of a pipe.
type end struct {
	in, out *stream
	rd, wd  deadline
}

func (e *end) Read(b []byte) (int, error) {
	s := e.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case e.rd.elapsed():
			return 0, e.failed("read", os.ErrDeadlineExceeded)
		case s.reset:
			return 0, e.failed("read", syscall.ECONNRESET)
		case s.gone:
			return 0, e.failed("read", net.ErrClosed)
		case len(s.buf) > 0:
			n := copy(b, s.buf)
			full := len(s.buf) >= pipeSize
			s.buf = s.buf[n:]
			if len(s.buf) == 0 {
				s.buf = nil
			}
			if full {
				close(s.changed)
				s.changed = make(chan struct{})
			}
			return n, nil
		case s.eof:
			return 0, io.EOF
		}
		if err := s.wait(&e.rd); err != nil {
			return 0, e.failed("read", err)
		}
	}
}

func (e *end) Write(b []byte) (int, error) {
	s, written := e.out, 0
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case e.wd.elapsed():
			return written, e.failed("write", os.ErrDeadlineExceeded)
		case s.reset:
			return written, e.failed("write", syscall.ECONNRESET)
		case s.eof:
			return written, e.failed("write", net.ErrClosed)
		case s.gone:
			return written, e.failed("write", syscall.EPIPE)
		}
		if n := min(len(b), pipeSize-len(s.buf)); n > 0 {
			s.buf = append(s.buf, b[:n]...)
			b, written = b[n:], written+n
			close(s.changed)
			s.changed = make(chan struct{})
		}
		if len(b) == 0 {
			return written, nil
		}
		if err := s.wait(&e.wd); err != nil {
			return written, e.failed("write", err)
		}
	}
}

// CloseWrite ends the stream after the written data.
func (e *end) CloseWrite() error {
	e.out.update(func() { e.out.eof = true })
	return nil
}

// Close closes both directions.
func (e *end) Close() error {
	_ = e.CloseWrite()
	e.in.update(func() { e.in.gone, e.in.buf = true, nil })
	e.stopTimers()
	return nil
}

// reset makes both ends fail at once, like RST.
func (e *end) reset() {
	for _, s := range []*stream{e.in, e.out} {
		s.update(func() { s.reset, s.buf = true, nil })
	}
	e.stopTimers()
}

func (e *end) stopTimers() {
	for _, d := range []*deadline{&e.rd, &e.wd} {
		d.mu.Lock()
		if d.timer != nil {
			d.timer.Stop()
		}
		d.mu.Unlock()
	}
}

func (e *end) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "pipe", Source: e.LocalAddr(), Addr: e.RemoteAddr(), Err: err}
}

// LocalAddr and RemoteAddr return the same constant address.
func (e *end) LocalAddr() net.Addr  { return pipeAddr{} }
func (e *end) RemoteAddr() net.Addr { return pipeAddr{} }

func (e *end) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.rd.set(t, func() { e.in.update(func() {}) })
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.wd.set(t, func() { e.out.update(func() {}) })
	return nil
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "amqptest" }

// reset closes a connection with RST instead of FIN.
func reset(nc net.Conn) {
	switch nc := nc.(type) {
	case *end:
		nc.reset()
	case *net.TCPConn:
		_ = nc.SetLinger(0)
		_ = nc.Close()
	default:
		_ = nc.Close()
	}
}

package amqptest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// soon bounds every wait for an expected event.
const soon = 10 * time.Second

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A stage is a proxy with a listener behind it.
type stage struct {
	*Proxy
	t      *testing.T
	behind *net.TCPListener
}

func newStage(t *testing.T) *stage {
	t.Helper()
	l := listen(t)
	return &stage{StartProxy(t, "amqp://"+l.Addr().String()), t, l}
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// link opens a link and returns both of its ends.
func (s *stage) link() (client, broker peer) {
	s.t.Helper()
	opened := s.Next(func(e Event) bool { return e.Kind == LinkOpened })
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	broker = accept(s.t, s.behind)
	<-opened
	return peer{c.(*net.TCPConn), s.t}, broker
}

// expectRefusal connects and expects a reset.
func (s *stage) expectRefusal() {
	s.t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err == nil {
		defer func() { _ = c.Close() }()
		_ = c.SetReadDeadline(time.Now().Add(soon))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, errReset) {
		s.t.Errorf("connecting: %v, want a reset", err)
	}
}

func accept(t *testing.T, l *net.TCPListener) peer {
	t.Helper()
	_ = l.SetDeadline(time.Now().Add(soon))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return peer{c, t}
}

// A peer is one end of a link.
type peer struct {
	*net.TCPConn
	t *testing.T
}

func (p peer) send(frames ...Frame) {
	p.t.Helper()
	p.write(wireOf(frames...))
}

func (p peer) write(b []byte) {
	p.t.Helper()
	_ = p.SetWriteDeadline(time.Now().Add(soon))
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func wireOf(frames ...Frame) []byte {
	var b []byte
	for _, f := range frames {
		b = f.appendTo(b)
	}
	return b
}

// expect reads exactly these frames.
func (p peer) expect(frames ...Frame) {
	p.t.Helper()
	p.expectBytes(wireOf(frames...))
}

func (p peer) expectBytes(want []byte) {
	p.t.Helper()
	got := make([]byte, len(want))
	_ = p.SetReadDeadline(time.Now().Add(soon))
	if n, err := io.ReadFull(p, got); err != nil || !bytes.Equal(got, want) {
		p.t.Fatalf("%.100q came (%v), want %.100q", got[:n], err, want)
	}
}

// expectEnd expects the end of the stream and no bytes before it.
func (p peer) expectEnd(want error) {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(soon))
	if n, err := p.Read(make([]byte, 1)); n > 0 || !errors.Is(err, want) {
		p.t.Errorf("Read = %d, %v; want %v", n, err, want)
	}
}

// expectSilence expects neither bytes nor the end of the stream for a moment.
func (p peer) expectSilence() {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := p.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Errorf("Read = %d, %v; want silence", n, err)
	}
}

var errReset = syscall.ECONNRESET

// body returns a body frame of n bytes that start with a number.
func body(channel uint16, number, n int) Frame {
	payload := make([]byte, n)
	for i := range min(n, 8) {
		payload[i] = byte(number >> (8 * i))
	}
	return Frame{Type: FrameBody, Channel: channel, Payload: payload}
}

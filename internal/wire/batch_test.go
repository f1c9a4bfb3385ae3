package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// A socket takes down what is written to it.
type socket struct {
	net.Conn
	writes []string
	err    error
	closed bool
}

func (s *socket) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.writes = append(s.writes, string(b))
	return len(b), nil
}

func (s *socket) Close() error { s.closed = true; return nil }

func newBatch(t *Transport) *Batch { return &Batch{t: t} }

func write(t *testing.T, tr *Transport, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if n, err := tr.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
}

func TestABatchIsWrittenAtOnce(t *testing.T) {
	s := &socket{}
	tr := NewTransport(s)
	b := newBatch(tr)
	write(t, tr, "alone")
	b.Begin()
	b.Begin()
	write(t, tr, "a", "b", "c")
	b.End()
	b.End()
	write(t, tr, "alone again")
	if want := []string{"alone", "abc", "alone again"}; !slices.Equal(s.writes, want) {
		t.Errorf("written %q, want %q", s.writes, want)
	}
}

// Nothing waits for somebody else's batch.
func TestTheFirstOfTwoBatchesToEndWritesBoth(t *testing.T) {
	s := &socket{}
	tr := NewTransport(s)
	first, second := newBatch(tr), newBatch(tr)
	first.Begin()
	second.Begin()
	write(t, tr, "1", "2")
	first.End()
	write(t, tr, "3")
	second.End()
	if want := []string{"12", "3"}; !slices.Equal(s.writes, want) {
		t.Errorf("written %q, want %q", s.writes, want)
	}
}

func TestABatchHoldsBackNoMoreThanItsSize(t *testing.T) {
	s := &socket{}
	tr := NewTransport(s)
	b := newBatch(tr)
	b.Begin()
	half := string(bytes.Repeat([]byte("x"), batchSize/2))
	write(t, tr, half, half, "y", "z")
	if want := []string{half + half, "y"}; !slices.Equal(s.writes, want) {
		t.Errorf("%d writes, want what fills the batch, and what came then", len(s.writes))
	}
	b.End()
	if got := s.writes[len(s.writes)-1]; got != "z" {
		t.Errorf("written last %q, want the rest", got)
	}
}

func TestAFailureOfABatchIsEveryLaterWritesToo(t *testing.T) {
	s := &socket{err: errors.New("reset")}
	tr := NewTransport(s)
	b := newBatch(tr)
	b.Begin()
	write(t, tr, "a")
	b.End()
	s.err = nil
	if _, err := tr.Write([]byte("b")); err == nil || len(s.writes) > 0 {
		t.Errorf("Write = %v after a part was lost; written %q", err, s.writes)
	}
	b.Begin()
	if _, err := tr.Write([]byte("c")); err == nil {
		t.Error("a later batch takes something")
	}
}

func TestCloseWritesWhatIsHeldBack(t *testing.T) {
	s := &socket{}
	tr := NewTransport(s)
	newBatch(tr).Begin()
	write(t, tr, "bye")
	if err := tr.Close(); err != nil || !slices.Equal(s.writes, []string{"bye"}) || !s.closed {
		t.Errorf("Close = %v, written %q, closed %v", err, s.writes, s.closed)
	}
}

func TestLargeWritesFollowTheHeldBackOnesOnASocket(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan []byte, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			got <- nil
			return
		}
		defer nc.Close()
		all, _ := io.ReadAll(nc)
		got <- all
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	tr := NewTransport(NewLink(nc))
	b := newBatch(tr)
	want := []byte("AMQP\x00\x00\x09\x01")
	write(t, tr, string(want))
	for i := range 64 {
		b.Begin()
		small, large := frame(1, bytes.Repeat([]byte{byte(i)}, 100)...), frame(3, bytes.Repeat([]byte{byte(200 + i%50)}, i<<14)...)
		all := slices.Concat(small, large, small)
		want = append(want, all...)
		for _, part := range split(all, 1+i, len(small), len(small)+frameHeader, len(small)+len(large)-frameEnd, len(small)+len(large)) {
			write(t, tr, string(part))
		}
		if i%3 == 0 {
			b.End()
		}
	}
	b.End()
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("the peer got %d bytes, want these %d", len(all), len(want))
	}
}

// split cuts b at the offsets, which ascend.
func split(b []byte, at ...int) (parts [][]byte) {
	last := 0
	for _, i := range at {
		parts = append(parts, b[last:i])
		last = i
	}
	return append(parts, b[last:])
}

func TestLargePayloadIsWrittenWithTheEndOfItsFrame(t *testing.T) {
	for _, batch := range []bool{false, true} {
		s := &socket{}
		tr := NewTransport(&Link{Conn: s})
		write(t, tr, "AMQP\x00\x00\x09\x01")
		s.writes = nil
		large := frame(3, bytes.Repeat([]byte("b"), batchSize)...)
		b := newBatch(tr)
		if batch {
			b.Begin()
		}
		parts := split(large, 4096, len(large)-frameEnd) // as amqp091-go writes them
		write(t, tr, string(parts[0]), string(parts[1]))
		if got := strings.Join(s.writes, ""); got != string(large) {
			t.Errorf("batch %v: %d bytes written with the payload, want the frame of %d", batch, len(got), len(large))
		}
		write(t, tr, string(parts[2]))
		written := len(s.writes)
		b.End()
		next := frame(8, 1, 2, 3)
		write(t, tr, string(next))
		if got := strings.Join(s.writes[written:], ""); got != string(next) {
			t.Errorf("batch %v: written next %q, want %q", batch, got, next)
		}
	}
}

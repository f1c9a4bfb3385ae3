package wire

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
)

func frame(typ byte, payload ...byte) []byte {
	b := []byte{typ, 0, 1}
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(append(b, payload...), 0xce)
}

// confirm is a basic.ack (method 80) or basic.nack (120) of the tag.
func confirm(method uint16, tag uint64) []byte {
	p := binary.BigEndian.AppendUint16([]byte{0, 60}, method)
	return frame(1, append(binary.BigEndian.AppendUint64(p, tag), 1)...)
}

// A peer is a connection that a broker's bytes come from, in pieces.
type peer struct {
	net.Conn // nil: the others are not called
	stream   []byte
	piece    int
	closed   bool
}

func (p *peer) Read(b []byte) (int, error) {
	if len(p.stream) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.piece)], p.stream)
	p.stream = p.stream[n:]
	return n, nil
}

func (p *peer) Write(b []byte) (int, error) { return len(b), nil }

func (p *peer) Close() error {
	p.closed = true
	return nil
}

func TestAConfirmOfANeverSentMessageIsFoundHoweverTheFramesAreCut(t *testing.T) {
	passed := bytes.Join([][]byte{
		frame(8),
		confirm(80, 3),
		frame(1, 0, 60, 0, 60, 0, 0, 0, 0, 0, 0, 0, 99), // a delivery
		frame(1, 0, 20),
		content(1, nil),
		frame(3, bytes.Repeat(confirm(80, 98), 50)...), // a body that looks like confirms
		confirm(120, 6),
		frame(1, 0, 20, 0, 41),
		confirm(80, 5),
	}, nil)
	stream := append(slices.Clip(passed), confirm(120, 7)...)
	for size := 1; size <= len(stream); size++ {
		p := &peer{stream: stream, piece: size}
		tr := NewTransport(p)
		_, _ = tr.Write(make([]byte, 7*smallestPublish-1))
		got, err := io.ReadAll(tr)
		if !bytes.Equal(got, passed) || err == nil || !p.closed {
			t.Fatalf("in pieces of %d: %d bytes passed, want %d; %v; closed: %v", size, len(got), len(passed), err, p.closed)
		}
	}
}

func FuzzTheTransportPassesFramesOnWhateverComes(f *testing.F) {
	f.Add(confirm(80, 0), 5)
	f.Add(content(1, table("a", 'I', []byte{0, 0, 0, 1})), 5)
	f.Add(content(1, table("a", 'L', nil)), 5)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		read := func(piece int) ([]byte, error) {
			return io.ReadAll(NewTransport(&peer{stream: b, piece: max(1, piece)}))
		}
		whole, err := read(len(b))
		pieces, err2 := read(piece)
		if !bytes.Equal(whole, pieces) || (err == nil) != (err2 == nil) {
			t.Errorf("in pieces of %d: %q, %v; want %q, %v", piece, pieces, err2, whole, err)
		}
		if bytes.IndexByte(b, contentFrame) < 0 && err == nil && !bytes.Equal(whole, b) {
			t.Errorf("%q became %q", b, whole)
		}
	})
}

// S62: amqp091-go counts up to the tag of a basic.ack with multiple set, however high.
func TestConfirmOfWhatWasNeverSentEndsTheTransport(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	tr := NewTransport(near)
	go func() {
		_, _ = far.Read(make([]byte, 2*smallestPublish))
		_, _ = far.Write(confirm(80, 2))
		_, _ = far.Write(confirm(80, 3))
	}()
	if _, err := tr.Write(make([]byte, 2*smallestPublish)); err != nil {
		t.Fatal(err)
	}
	if n, err := tr.Read(make([]byte, 100)); n == 0 || err != nil {
		t.Fatalf("Read = %d, %v of a confirm that can be", n, err)
	}
	if n, err := tr.Read(make([]byte, 100)); n != 0 || err == nil {
		t.Fatalf("Read = %d, %v of a confirm that cannot be", n, err)
	}
	if _, err := near.Write([]byte("x")); err == nil {
		t.Error("the socket is open")
	}
}

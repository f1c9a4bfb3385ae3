package wire

import (
	"fmt"
	"net"
	"testing"
)

// An endless is a connection that gives the same bytes again and again, and takes all.
type endless struct {
	net.Conn // nil: the others are not called
	stream   []byte
	at       int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.stream[e.at:])
	e.at = (e.at + n) % len(e.stream)
	return n, nil
}

func (e *endless) Write(b []byte) (int, error) { return len(b), nil }

// What the Transport costs a delivery that amqp091-go reads, 4 KiB at a time.
func BenchmarkTransportRead(b *testing.B) {
	for _, size := range []int{64, 1024, 64 << 10} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			delivery := append(frame(1, make([]byte, 60)...), frame(2, make([]byte, 40)...)...)
			delivery = append(delivery, frame(3, make([]byte, size)...)...)
			t := NewTransport(&endless{stream: delivery})
			into := make([]byte, 4096)
			b.SetBytes(int64(len(delivery)))
			b.ReportAllocs()
			for b.Loop() {
				for left := len(delivery); left > 0; {
					n, err := t.Read(into[:min(left, len(into))])
					if err != nil {
						b.Fatal(err)
					}
					left -= n
				}
			}
		})
	}
}

// What the Transport costs a write that amqp091-go makes, alone.
func BenchmarkTransportWrite(b *testing.B) {
	for _, size := range []int{64, 1024, 64 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			t := NewTransport(&endless{})
			message := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if n, err := t.Write(message); n != size || err != nil {
					b.Fatalf("wrote %d of %d bytes: %v", n, size, err)
				}
			}
		})
	}
}

// What a message costs that is written in a batch of so many.
func BenchmarkBatch(b *testing.B) {
	for _, messages := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("messages=%d", messages), func(b *testing.B) {
			t := NewTransport(&endless{})
			batch := newBatch(t)
			message := make([]byte, 256)
			n := 0
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				batch.Begin()
				if _, err := t.Write(message); err != nil {
					b.Fatal(err)
				}
				if n++; n%messages == 0 {
					batch.End()
				}
			}
			batch.End()
		})
	}
}

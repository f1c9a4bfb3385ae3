package wire

import (
	"bytes"
	"encoding/binary"
	"net"
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

func TestConfirmsAreFoundAmongFramesHoweverTheyAreCut(t *testing.T) {
	stream := bytes.Join([][]byte{
		frame(8),
		confirm(80, 3),
		frame(1, 0, 60, 0, 60, 0, 0, 0, 0, 0, 0, 0, 99), // a delivery
		frame(1, 0, 20),
		frame(3, bytes.Repeat(confirm(80, 98), 50)...), // a body that looks like confirms
		confirm(120, 7),
		frame(1, 0, 20, 0, 41),
		confirm(80, 5),
	}, nil)
	for size := 1; size <= len(stream); size++ {
		var f frames
		var highest uint64
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			highest = max(highest, f.scan(rest[:n]))
			rest = rest[n:]
		}
		if highest != 7 || f.have != 0 || f.skip != 0 {
			t.Fatalf("in pieces of %d: highest tag %d, want 7; %+v", size, highest, f)
		}
	}
}

func FuzzFramesAreScannedWhateverComes(f *testing.F) {
	f.Add(confirm(80, 3), 5)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, pieces frames
		cut = min(max(cut, 0), len(b))
		want := whole.scan(b)
		if got := max(pieces.scan(b[:cut]), pieces.scan(b[cut:])); got != want || pieces != whole {
			t.Errorf("cut at %d: %d, want %d", cut, got, want)
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

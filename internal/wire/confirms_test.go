package wire

import (
	"slices"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// single is a confirm of one message.
func single(method uint16, tag uint64) []byte {
	f := confirm(method, tag)
	f[frameHeader+confirmSize] = 0
	return f
}

// amqp091-go processes a frame before it reads on. Only then is the message's DeferredConfirmation complete.
func TestOvertakingConfirmIsReportedOnceItsFrameWasProcessed(t *testing.T) {
	acks := [][]byte{single(80, 2), confirm(80, 3), single(120, 5)}
	stream := slices.Concat(acks...)
	for size := 1; size <= len(stream); size++ {
		tr := NewTransport(&peer{stream: stream, piece: len(stream)})
		_, _ = tr.Write(make([]byte, 10*smallestPublish))
		c := tr.confirms.add(tr)
		c.SetOldest(1)
		var got []uint64
		processed := 0 // bytes
		for buf := make([]byte, size); ; {
			n, err := tr.Read(buf)
			for _, tag := range c.Take(nil) {
				got = append(got, tag)
				if end := map[uint64]int{2: len(acks[0]), 5: len(stream)}[tag]; processed < end {
					t.Fatalf("in pieces of %d: tag %d is reported after %d bytes, before the end of its frame", size, tag, processed)
				}
			}
			if processed += n; err != nil {
				break
			}
		}
		if !slices.Equal(got, []uint64{2, 5}) {
			t.Errorf("in pieces of %d: reported %v, want the confirms of single messages", size, got)
		}
	}
}

func TestOnlyConfirmsOfYoungerMessagesThanTheOldestAreReported(t *testing.T) {
	stream := slices.Concat(single(80, 4), single(80, 6), single(80, 7))
	tr := NewTransport(&peer{stream: stream, piece: len(stream)})
	_, _ = tr.Write(make([]byte, 10*smallestPublish))
	waiting, ahead, closed := tr.confirms.add(tr), tr.confirms.add(tr), tr.confirms.add(tr)
	waiting.SetOldest(6)
	ahead.SetOldest(7)
	closed.Close()
	for _, err := tr.Read(make([]byte, len(stream))); err == nil; {
		_, err = tr.Read(make([]byte, 1))
	}
	select {
	case <-waiting.Ready:
	default:
		t.Error("Ready does not report the confirm of 7")
	}
	if got := waiting.Take(nil); !slices.Equal(got, []uint64{7}) {
		t.Errorf("waiting for 6: reported %v, want 7", got)
	}
	if got := append(ahead.Take(nil), closed.Take(nil)...); len(got)+len(ahead.Ready)+len(closed.Ready) > 0 {
		t.Errorf("reported %v, want nothing", got)
	}
}

func TestConfirmsOnAForeignConnectionNeverReportsAnything(t *testing.T) {
	c := ConfirmsOn(new(amqp.Connection))
	c.SetOldest(1)
	if c.Ready != nil || c.Take(nil) != nil {
		t.Error("tags are reported")
	}
	c.Close()
}

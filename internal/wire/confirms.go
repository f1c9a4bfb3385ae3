package wire

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Confirms reports the delivery tags of confirms that overtake older messages on a connection. A publisher that waits
// for its oldest message learns from it which of the others to look at. A tag may be of another channel. It is reported
// after amqp091-go has processed the frame, so the message's DeferredConfirmation is complete and a basic.return
// in front of it was delivered. A publisher must continuously receive from Ready.
type Confirms struct {
	Ready <-chan struct{} // receives after tags were added; nil if amqpkit did not dial the connection

	t      *Transport
	ready  chan struct{}
	oldest atomic.Uint64
	tags   []uint64 // guarded by t.confirms.mu
}

// ConfirmsOn starts to collect tags on ac, until Close.
func ConfirmsOn(ac *amqp.Connection) *Confirms {
	a, ok := ac.LocalAddr().(transportAddr)
	if !ok {
		return new(Confirms)
	}
	return a.transport.confirms.add(a.transport)
}

// Close stops the collection.
func (c *Confirms) Close() {
	if c.t != nil {
		c.t.confirms.remove(c)
	}
}

// SetOldest sets the tag of the oldest message in flight. Older ones are not reported.
func (c *Confirms) SetOldest(tag uint64) { c.oldest.Store(tag) }

// Take returns the tags that were confirmed since the last call. It reuses the memory of buf.
func (c *Confirms) Take(buf []uint64) (tags []uint64) {
	if c.t == nil {
		return nil
	}
	c.t.confirms.mu.Lock()
	defer c.t.confirms.mu.Unlock()
	tags, c.tags = c.tags, buf[:0]
	return tags
}

// confirms are the subscriptions on a Transport, and the confirms that amqp091-go has yet to process.
type confirms struct {
	seen []seenConfirm // in the order of the stream; owned by the reader

	mu   sync.Mutex
	subs []*Confirms
}

type seenConfirm struct {
	end uint64 // offset of the end of its frame in the bytes that amqp091-go reads
	tag uint64
}

func (c *confirms) add(t *Transport) *Confirms {
	ready := make(chan struct{}, 1)
	sub := &Confirms{Ready: ready, t: t, ready: ready}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = append(c.subs, sub)
	return sub
}

func (c *confirms) remove(sub *Confirms) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = slices.DeleteFunc(c.subs, func(s *Confirms) bool { return s == sub })
}

// see notes a confirm of a single message whose frame ends at an offset. A confirm of several messages includes the oldest one.
func (c *confirms) see(tag, end uint64) { c.seen = append(c.seen, seenConfirm{end, tag}) }

// report reports the confirms in the first read bytes. amqp091-go processes each frame before it reads more.
func (c *confirms) report(read uint64) {
	n := 0
	for n < len(c.seen) && c.seen[n].end <= read {
		n++
	}
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sub := range c.subs {
		oldest, before := sub.oldest.Load(), len(sub.tags)
		for _, s := range c.seen[:n] {
			if s.tag > oldest {
				sub.tags = append(sub.tags, s.tag)
			}
		}
		if len(sub.tags) > before {
			select {
			case sub.ready <- struct{}{}:
			default:
			}
		}
	}
	c.seen = slices.Delete(c.seen, 0, n)
}

// confirmed returns the tag if the method frame f confirms messages, and whether it confirms older ones too.
func confirmed(f []byte) (tag uint64, multiple bool) {
	switch binary.BigEndian.Uint32(f[frameHeader:]) {
	case basicAck, basicNack:
		tag = binary.BigEndian.Uint64(f[frameHeader+4:])
		multiple = len(f) > frameHeader+confirmSize && f[frameHeader+confirmSize]&1 > 0
	}
	return tag, multiple
}

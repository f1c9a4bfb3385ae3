package broker

import (
	"slices"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// confirms collects the outcomes of published messages. Like RabbitMQ, the broker confirms messages that arrive in one
// read with a single basic.ack whose multiple flag is set.
type confirms struct {
	selected  bool
	published uint64
	acks      []uint64
	nacks     []uint64
	lost      uint64 // the first message whose confirm was dropped by a fault, 0 for none
	waiting   bool   // the channel is in Broker.confirming
}

// confirm records the outcome of a message, unless a fault holds or drops it.
func (ch *channel) confirm(seq uint64, ok bool) {
	f, c := &ch.b.faults, &ch.confirms
	switch {
	case f.dropConfirms:
		if c.lost == 0 || seq < c.lost {
			c.lost = seq
		}
		return
	case f.holdConfirms:
		f.held = append(f.held, confirmation{ch, seq, ok})
		return
	case ok:
		c.acks = append(c.acks, seq)
	default:
		c.nacks = append(c.nacks, seq)
	}
	if !c.waiting {
		c.waiting = true
		ch.b.confirming = append(ch.b.confirming, ch)
	}
}

// sendConfirms sends the recorded outcomes. RabbitMQ never sets multiple on a single ack, but does so on a single nack.
func (ch *channel) sendConfirms() {
	acks, nacks := ch.confirms.acks, ch.confirms.nacks
	if len(acks)+len(nacks) == 0 {
		return
	}
	ch.confirms.acks, ch.confirms.nacks = nil, nil
	ack := func(tag uint64, multiple bool) codec.Method { return &codec.BasicAck{Tag: tag, Multiple: multiple} }
	nack := func(tag uint64, multiple bool) codec.Method { return &codec.BasicNack{Tag: tag, Multiple: multiple} }
	if len(acks) == 1 {
		ch.c.send(ch.number, ack(acks[0], false))
	} else {
		ch.sendGroup(acks, nacks, ack)
	}
	ch.sendGroup(nacks, acks, nack)
}

// sendGroup sends one method with multiple set for all tags before the first message with another outcome or without one, and
// one method for each later tag.
func (ch *channel) sendGroup(tags, others []uint64, method func(tag uint64, multiple bool) codec.Method) {
	if len(tags) == 0 {
		return
	}
	slices.Sort(tags)
	limit := ch.unconfirmed()
	for _, tag := range others {
		limit = min(limit, tag)
	}
	n, _ := slices.BinarySearch(tags, limit)
	if n > 0 {
		ch.c.send(ch.number, method(tags[n-1], true))
	}
	for _, tag := range tags[n:] {
		ch.c.send(ch.number, method(tag, false))
	}
}

// unconfirmed returns the first message without an outcome.
func (ch *channel) unconfirmed() uint64 {
	first := ch.confirms.published + 1
	if lost := ch.confirms.lost; lost > 0 {
		first = lost
	}
	for _, c := range ch.b.faults.held {
		if c.ch == ch {
			first = min(first, c.seq)
		}
	}
	return first
}

// sendAllConfirms sends the confirms of all channels whose connection has no further frame to handle.
func (b *Broker) sendAllConfirms() {
	b.confirming = slices.DeleteFunc(b.confirming, func(ch *channel) bool {
		if ch.c.more {
			return false
		}
		ch.confirms.waiting = false
		ch.sendConfirms()
		return true
	})
}

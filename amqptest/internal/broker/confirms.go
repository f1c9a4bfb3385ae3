package broker

import (
	"slices"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// confirms are what a channel in confirm mode still has to tell its publisher. As in RabbitMQ, the confirms of messages that
// were read together are sent together: one basic.ack with multiple set confirms as many as it can.
type confirms struct {
	selected  bool
	published uint64
	acks      []uint64
	nacks     []uint64
	lost      uint64 // the first message whose confirm a fault has lost, 0 for none
	waiting   bool   // the channel is in Broker.confirming
}

// confirm records the fate of a message, unless a fault keeps that back.
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

// sendConfirms sends what is recorded. RabbitMQ sends a single ack alone, whatever came before it, and every other ack and
// every nack as part of a group.
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

// sendGroup sends one method for all tags before the first that has another outcome, or none yet, and one for each of the rest.
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

// unconfirmed is the first message that has no outcome yet.
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

// sendAllConfirms sends the confirms of all channels whose connection has no more to read at once.
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

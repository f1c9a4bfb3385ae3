package broker

import (
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A delivery is an unsettled message at a client.
type delivery struct {
	tag      uint64
	entry    *entry
	queue    *queue
	consumer *consumer // nil for basic.get
	ch       *channel
	deadline time.Time // zero for none
	settled  bool      // also if the broker requeued it; a later settlement by the client has no effect
	timedOut bool      // timed out, but its consumer waits for the client to settle it
}

// deliver sends a message to the client.
func (c *consumer) deliver(e *entry) {
	ch := c.ch
	tag := ch.hold(c.queue, c, c.noAck, e)
	redelivered := e.isRedelivered()
	if !c.queue.quorum && e.seq > c.queue.served { // a classic queue reports the flag as stored for messages that it passes on at once
		redelivered = e.redelivered
	}
	m := codec.BasicDeliver{Consumer: c.tag, Tag: tag, Redelivered: redelivered, Exchange: e.exchange, Key: e.key}
	ch.c.sendContent(ch.number, &m, e.wireIn(c.queue), e.body)
}

// hold assigns a delivery tag and keeps the delivery until it is settled.
func (ch *channel) hold(q *queue, c *consumer, noAck bool, e *entry) uint64 {
	ch.tag++
	if noAck {
		return ch.tag
	}
	d := &delivery{tag: ch.tag, entry: e, queue: q, consumer: c, ch: ch}
	timeout := q.timeout
	if c != nil {
		c.unsettled++
		timeout = c.timeout
	}
	q.delivered[d] = struct{}{}
	q.unsettled++
	ch.unacked.push(d)
	if timeout > 0 && q.quorum {
		d.deadline = q.b.now.Add(timeout)
		if q.consumerTimeout.index == 0 || d.deadline.Before(q.consumerTimeout.at) {
			q.b.clock.set(&q.consumerTimeout, d.deadline)
		}
	}
	return ch.tag
}

func (e *entry) isRedelivered() bool { return e.redelivered || e.failures > 0 }

// wireIn returns the encoded properties, with the counts of a quorum queue.
func (e *entry) wireIn(q *queue) []byte {
	acquired, failures := e.counts(q)
	return e.wire(acquired, failures)
}

func (e *entry) headersIn(q *queue) codec.Table {
	acquired, failures := e.counts(q)
	return e.headers(acquired, failures)
}

func (e *entry) counts(q *queue) (acquired, failures int) {
	switch {
	case !q.quorum:
		return 0, 0
	case e.acquired == 0: // counted by another queue
		return e.failures, e.failures
	}
	return e.acquired, e.failures
}

func (ch *channel) basicGet(m *codec.BasicGet) *exception {
	if ch.b.replies[m.Queue] != nil {
		return raise(notImplemented, "basic.get not supported by volatile %s", ch.where(m.Queue))
	}
	q, e := ch.find(m.Queue)
	if e != nil {
		return e
	}
	if q.single && q.quorum {
		return raise(resourceLocked, "cannot obtain access to locked %s. basic.get operations are not supported by "+
			"<<\"quorum\">> queues with single active consumer", q.where())
	}
	q.restartExpiry()
	q.promote()
	q.expire(q.expired)
	l := q.head()
	if l == nil {
		ch.send(new(codec.BasicGetEmpty))
		q.touch()
		return nil
	}
	got := q.pop(l)
	if !q.quorum { // expired messages behind it are excluded from the count
		q.expire(q.expired)
	}
	tag := ch.hold(q, nil, m.NoAck, got)
	ok := codec.BasicGetOk{
		Tag: tag, Redelivered: got.isRedelivered(), Exchange: got.exchange, Key: got.key, Messages: uint32(q.ready),
	}
	ch.c.sendContent(ch.number, &ok, got.wireIn(q), got.body)
	q.touch()
	return nil
}

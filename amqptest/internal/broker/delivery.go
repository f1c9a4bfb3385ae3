package broker

import (
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A delivery is a message at a client, that has not settled it.
type delivery struct {
	tag      uint64
	entry    *entry
	queue    *queue
	consumer *consumer // nil for basic.get
	ch       *channel
	deadline time.Time // zero for none
	settled  bool      // also when the broker took it back: what the client says about it then does not count
	late     bool      // it timed out: its consumer waits for the client to settle it nevertheless
}

// deliver sends a message to the client.
func (c *consumer) deliver(e *entry) {
	ch := c.ch
	tag := ch.hold(c.queue, c, c.noAck, e)
	redelivered := e.isRedelivered()
	if !c.queue.quorum && e.seq > c.queue.served { // a classic queue does not look at what it passes on at once
		redelivered = e.redelivered
	}
	m := codec.BasicDeliver{Consumer: c.tag, Tag: tag, Redelivered: redelivered, Exchange: e.exchange, Key: e.key}
	ch.c.sendContent(ch.number, &m, e.wireIn(c.queue), e.body)
}

// hold gives a delivery its tag and keeps it until it is settled.
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
		if q.slow.index == 0 || d.deadline.Before(q.slow.at) {
			q.b.clock.set(&q.slow, d.deadline)
		}
	}
	return ch.tag
}

func (e *entry) isRedelivered() bool { return e.redelivered || e.failures > 0 }

// wireIn returns the properties, with the counts that a quorum queue tells.
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
	case e.acquired == 0: // another queue counted
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
	q.used()
	q.promote()
	q.expire(q.expired)
	l := q.head()
	if l == nil {
		ch.send(new(codec.BasicGetEmpty))
		q.touch()
		return nil
	}
	got := q.pop(l)
	if !q.quorum { // what has expired behind it is not counted any more
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

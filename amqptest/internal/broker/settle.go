package broker

import (
	"cmp"
	"slices"
)

// An outcome is what becomes of a delivery.
type outcome int

const (
	acked    outcome = iota
	nacked           // basic.nack without requeue
	rejected         // basic.reject without requeue, which is counted as a failure
	returned         // back to the queue: basic.nack, basic.recover, a timeout
	failed           // back to the queue: basic.reject, a channel that ended; counted as a failure
)

// settle settles one delivery of the channel, or all up to it.
func (ch *channel) settle(tag uint64, multiple bool, o outcome) *exception {
	taken := ch.unacked.take(tag, multiple)
	if len(taken) == 0 && (tag != 0 || !multiple) {
		return raise(preconditionFailed, "unknown delivery tag %d", tag)
	}
	if ch.tx != nil {
		ch.tx.settle(taken, o)
		return nil
	}
	for _, d := range taken {
		d.settle(o)
	}
	return nil
}

// recover returns all that is unsettled.
func (ch *channel) recover() {
	for _, d := range ch.unacked.all() {
		d.settle(returned)
	}
}

func (d *delivery) settle(o outcome) {
	if d.late {
		d.late = false
		d.consumer.resume()
	}
	if !d.free() {
		return
	}
	q, e := d.queue, d.entry
	switch o {
	case acked:
	case nacked:
		q.deadLetter(e, "rejected", e.failures)
	case rejected:
		e.failures++
		q.deadLetter(e, "rejected", e.failures)
	default:
		q.giveBack(e, o)
	}
	q.touch()
}

// free ends the delivery. It returns false if that is nobody's concern any more.
func (d *delivery) free() bool {
	if d.settled {
		return false
	}
	d.settled = true
	c, q := d.consumer, d.queue
	if c != nil {
		c.unsettled--
	}
	delete(q.delivered, d)
	q.unsettled--
	if q.gone {
		return false
	}
	if c != nil && c.leaving && c.unsettled == 0 {
		q.elect()
	}
	q.touch()
	return true
}

// giveBack puts a message back: into a classic queue where it was, into a quorum queue before all that was not delivered
// yet, unless it failed too often.
func (q *queue) giveBack(e *entry, o outcome) {
	e.redelivered = true
	if o == failed {
		e.failures++
	}
	if !q.quorum {
		q.count(e, 1)
		q.band(e.priority).insert(e)
		q.dropHeads() // before a consumer gets it
		return
	}
	e.acquired++
	if q.limit >= 0 && int64(e.failures) > q.limit {
		q.deadLetter(e, "delivery_limit", e.failures)
		return
	}
	if q.delay(e, o == failed) {
		return
	}
	q.count(e, 1)
	q.returns.push(e)
}

// timeOut takes back what was not settled in time. The client is told that its consumer has ended, which is only half
// true (see resume). Where there is no consumer, after basic.get or basic.cancel, the channel is closed.
func (q *queue) timeOut() {
	var late []*delivery
	for d := range q.delivered {
		if !d.deadline.IsZero() && !d.deadline.After(q.b.now) {
			late = append(late, d)
		}
	}
	slices.SortFunc(late, func(a, b *delivery) int {
		return cmp.Or(cmp.Compare(a.entry.seq, b.entry.seq), cmp.Compare(a.tag, b.tag))
	})
	for _, d := range late {
		d.settle(returned)
	}
	for _, d := range late {
		ch := d.ch
		switch {
		case ch.closing:
		case d.consumer != nil && ch.consumers[d.consumer.tag] == d.consumer:
			d.late = true
			d.consumer.suspend()
		default:
			ch.c.fail(ch.number, 0, raise(preconditionFailed, "delivery acknowledgement on channel %d timed out. "+
				"Timeout value used: -1 ms. This timeout value can be configured, see consumers doc guide to learn more", ch.number))
		}
	}
	for d := range q.delivered {
		if !d.deadline.IsZero() && (q.slow.index == 0 || d.deadline.Before(q.slow.at)) {
			q.b.clock.set(&q.slow, d.deadline)
		}
	}
}

// suspend has a consumer get nothing while the client has not settled what timed out.
func (c *consumer) suspend() {
	c.late++
	if c.late > 1 {
		return
	}
	c.tellCancelled()
	if c.queue.active == c {
		c.queue.active, c.leaving = nil, false
		c.queue.elect()
	}
}

// resume has a suspended consumer get messages again once all is settled, as RabbitMQ does, though the client takes it
// for cancelled. Only basic.cancel or the end of the channel ends it.
func (c *consumer) resume() {
	c.late--
	if c.late == 0 && !c.queue.gone {
		c.queue.elect()
		c.queue.touch()
	}
}

package broker

import (
	"cmp"
	"slices"
)

// An outcome is how a delivery is settled.
type outcome int

const (
	acked    outcome = iota
	nacked           // basic.nack without requeue
	rejected         // basic.reject without requeue, counted as a failure
	returned         // requeued by basic.nack, basic.recover or a timeout
	failed           // requeued by basic.reject or a closed channel, counted as a failure
)

// settle settles a delivery of the channel, or all up to it.
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

// recover requeues all unsettled deliveries.
func (ch *channel) recover() {
	for _, d := range ch.unacked.all() {
		d.settle(returned)
	}
}

func (d *delivery) settle(o outcome) {
	if d.timedOut {
		d.timedOut = false
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
		q.requeue(e, o)
	}
	q.touch()
}

// free marks the delivery as settled. It returns false if it already was or the queue is deleted.
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
	if c != nil && c.yielding && c.unsettled == 0 {
		q.elect()
	}
	q.touch()
	return true
}

// requeue requeues a message: in a classic queue at its original position, in a quorum queue before all undelivered
// messages unless its delivery limit is exceeded.
func (q *queue) requeue(e *entry, o outcome) {
	e.redelivered = true
	if o == failed {
		e.failures++
	}
	if !q.quorum {
		q.count(e, 1)
		q.band(e.priority).insert(e)
		q.dropHeads() // before a consumer receives it
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

// timeOut requeues deliveries that exceed the consumer timeout. The consumer is cancelled with the client but kept, see
// resume. Without a consumer (basic.get, or after basic.cancel) the channel is closed.
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
			d.timedOut = true
			d.consumer.suspend()
		default:
			ch.c.fail(ch.number, 0, raise(preconditionFailed, "delivery acknowledgement on channel %d timed out. "+
				"Timeout value used: -1 ms. This timeout value can be configured, see consumers doc guide to learn more", ch.number))
		}
	}
	for d := range q.delivered {
		if !d.deadline.IsZero() && (q.consumerTimeout.index == 0 || d.deadline.Before(q.consumerTimeout.at)) {
			q.b.clock.set(&q.consumerTimeout, d.deadline)
		}
	}
}

// suspend stops deliveries to a consumer until the client has settled its timed-out deliveries.
func (c *consumer) suspend() {
	c.timedOut++
	if c.timedOut > 1 {
		return
	}
	c.notifyCancelled()
	if c.queue.active == c {
		c.queue.active, c.yielding = nil, false
		c.queue.elect()
	}
}

// resume continues deliveries to a suspended consumer once everything is settled. RabbitMQ does so although it told the
// client that the consumer was cancelled; only basic.cancel or closing the channel removes it.
func (c *consumer) resume() {
	c.timedOut--
	if c.timedOut == 0 && !c.queue.gone {
		c.queue.elect()
		c.queue.touch()
	}
}

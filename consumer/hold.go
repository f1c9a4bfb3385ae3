package consumer

import (
	"container/heap"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	firstHold = time.Second
	longHold  = 30 * time.Second

	// soonest is how long a message that was delivered before is held at least before it goes back, once freeBurst
	// of them went back sooner within ten seconds. Without it a message that no handler accepts would circle at the
	// speed of the link.
	soonest   = 100 * time.Millisecond
	freeBurst = 10

	// consumerTimeout is RabbitMQ's default.
	consumerTimeout = 30 * time.Minute
)

// pace returns how long a delivery is held before its settlement: the time after that the handler asks for, or longer. again
// reports whether the message was delivered before.
func (s *session) pace(d *Delivery, after time.Duration, again bool, why error) time.Duration {
	now := time.Now()
	if limit := s.run.cfg.consumerTimeout(); after >= limit && s.run.longHolds.add(now) == 1 {
		s.log.Warn("consumer: a message is held longer than the consumer timeout, after which a quorum queue requeues all deliveries of the consumer",
			"message_id", d.MessageId, "held", after, "timeout", limit)
	}
	if !again || after >= soonest {
		return after
	}
	n := s.run.circles.add(now)
	if n <= freeBurst {
		return after
	}
	if n == freeBurst+1 {
		s.log.Warn("consumer: messages go back as soon as they are delivered and are held from now on; pass Requeue a time, or Reject messages that cannot succeed",
			"message_id", d.MessageId, "held", soonest, "error", why)
	}
	return soonest
}

// consumerTimeout is the queue's as far as the Config tells, else the default.
func (c Config) consumerTimeout() time.Duration {
	var ms int64
	switch v := c.Arguments["x-consumer-timeout"].(type) {
	case int:
		ms = int64(v)
	case int32:
		ms = int64(v)
	case int64:
		ms = v
	default:
		return consumerTimeout
	}
	return time.Duration(min(ms, 1<<40)) * time.Millisecond
}

// rejectedHere reports whether the message was rejected before and came straight back by the queue's dead-letter exchange. On
// its way through a wait queue it would have expired since: x-death has the newest first.
func (s *session) rejectedHere(d *Delivery) bool {
	deaths, _ := d.Headers["x-death"].([]any)
	for _, v := range deaths {
		switch death, _ := v.(amqp.Table); {
		case death["reason"] == "expired":
			return false
		case death["reason"] == "rejected" && death["queue"] == s.queue:
			return true
		}
	}
	return false
}

// A burst counts events within ten seconds.
type burst struct {
	n     int
	since time.Time
}

// add counts an event and returns which one it is.
func (b *burst) add(now time.Time) int {
	if now.Sub(b.since) >= 10*time.Second {
		*b = burst{since: now}
	}
	b.n++
	return b.n
}

// holdFor is how long a failed delivery is held before it goes back to its queue: 1 s
// doubling to 30 s by the number of earlier failures. Without it a message that keeps failing
// would circle at the speed of the link.
func holdFor(failures int) time.Duration {
	hold := firstHold
	for range failures {
		if hold *= 2; hold >= longHold {
			return longHold
		}
	}
	return hold
}

// A held delivery waits to be settled. It keeps no worker busy, but one place of the prefetch.
type held struct {
	due time.Time
	tag uint64
	how settlement
}

// waiting holds the held deliveries, the next one due first.
type waiting struct{ heap heldHeap }

func (w *waiting) add(h held) { heap.Push(&w.heap, h) }

// next returns when the first delivery is due.
func (w *waiting) next() (time.Time, bool) {
	if len(w.heap) == 0 {
		return time.Time{}, false
	}
	return w.heap[0].due, true
}

// take removes and returns a delivery due at now.
func (w *waiting) take(now time.Time) (held, bool) {
	if len(w.heap) == 0 || w.heap[0].due.After(now) {
		return held{}, false
	}
	return heap.Pop(&w.heap).(held), true
}

// all removes and returns what is held.
func (w *waiting) all() []held {
	all := w.heap
	w.heap = nil
	return all
}

type heldHeap []held

func (h heldHeap) Len() int           { return len(h) }
func (h heldHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h heldHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heldHeap) Push(x any)        { *h = append(*h, x.(held)) }
func (h *heldHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = held{}
	*h = (*h)[:last]
	return x
}

// maxFailing bounds how many failing messages are remembered by their message id.
const maxFailing = 1024

// failures counts the earlier failures of messages. Quorum queues send the count along;
// for classic queues it is kept here, by message id, as far as memory is spent on it.
type failures map[string]int

// before returns how often the message failed before this delivery. Where the order is kept, the broker also counts
// messages that were put back at a shutdown: there only the failures seen here count.
func (r *run) before(d *Delivery) int {
	switch {
	case !r.cfg.ordered():
		return r.failures.of(d)
	case d.Redelivered:
		return r.failures[d.MessageId]
	}
	return 0
}

// of returns how often the message failed before this delivery.
func (f failures) of(d *Delivery) int {
	// A publisher can set the header on a fresh message: RabbitMQ passes it on, and
	// overwrites it only when the message fails.
	if !d.Redelivered {
		return 0
	}
	if n, ok := deliveryCount(d.Headers); ok {
		return n
	}
	return f[d.MessageId]
}

// failed remembers that the message has failed n times.
func (f failures) failed(d *Delivery, n int) {
	if d.MessageId == "" {
		return
	}
	if _, known := f[d.MessageId]; !known && len(f) >= maxFailing {
		for id := range f { // any one: forgetting only shortens its next hold
			delete(f, id)
			break
		}
	}
	f[d.MessageId] = n
}

// settled forgets a message that is done.
func (f failures) settled(d *Delivery) { delete(f, d.MessageId) }

// defaultLimit is the delivery limit of quorum queues that set none, since RabbitMQ 4.0. The delivery whose
// x-delivery-count is the limit is the last one.
const defaultLimit = 20

// warnOfLastDelivery names a message that RabbitMQ may drop when this delivery is returned. The queue's own limit
// is unknown: AMQP 0-9-1 gives a consumer no way to ask.
func (s *session) warnOfLastDelivery(d *Delivery, how settlement) {
	n, counted := deliveryCount(d.Headers)
	if !counted || !d.Redelivered || n < defaultLimit || s.run.cfg.HasDeadLetterExchange || how == postpone && !s.countsRequeues() {
		return
	}
	msg := "consumer: the last delivery that RabbitMQ's default delivery limit allows has failed, and a queue without a dead-letter exchange drops the message now; "
	if n > defaultLimit {
		msg = "consumer: a message failed more often than RabbitMQ's default delivery limit allows, and a queue without a dead-letter exchange drops it when its own limit is reached; "
	}
	s.log.Warn(msg+"give the queue a dead-letter exchange and set Config.HasDeadLetterExchange, or use package retry",
		"message_id", d.MessageId, "delivery_count", n, "default_limit", defaultLimit)
}

// countsRequeues reports whether the broker counts a basic.nack with requeue as a failed delivery, as RabbitMQ did
// before 4.3.
func (s *session) countsRequeues() bool {
	version, _ := s.ac.Properties["version"].(string)
	var major, minor int
	n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor)
	return n == 2 && (major < 4 || major == 4 && minor < 3)
}

func deliveryCount(h amqp.Table) (int, bool) {
	n, ok := h["x-delivery-count"].(int64)
	return int(max(0, n)), ok
}

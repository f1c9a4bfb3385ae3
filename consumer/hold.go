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
)

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
	if !counted || !d.Redelivered || n < defaultLimit || s.run.cfg.DeadLettered || how == postpone && !s.countsRequeues() {
		return
	}
	msg := "consumer: the last delivery that RabbitMQ's default delivery limit allows has failed, and a queue without a dead-letter exchange drops the message now; "
	if n > defaultLimit {
		msg = "consumer: a message failed more often than RabbitMQ's default delivery limit allows, and a queue without a dead-letter exchange drops it when its own limit is reached; "
	}
	s.log.Warn(msg+"give the queue a dead-letter exchange and set Config.DeadLettered, or use package retry",
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

package consumer

import "time"

// maxFailing bounds how many failing messages are remembered by their message id.
const maxFailing = 1024

const (
	firstHold = time.Second
	longHold  = 30 * time.Second
)

// failures counts the earlier failures of messages. Quorum queues send the count along;
// for classic queues it is kept here, by message id, as far as memory is spent on it.
type failures map[string]int

// before returns how often the message failed before this delivery. Where the order is kept, the broker also counts
// messages that were put back at a shutdown: there only the failures seen here count.
func (f failures) before(d *Delivery, ordered bool) int {
	switch {
	case !ordered:
		return f.of(d)
	case d.Redelivered:
		return f[d.MessageId]
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

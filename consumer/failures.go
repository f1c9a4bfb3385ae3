package consumer

import "time"

// maxFailing is the maximum number of failing messages that are remembered by message id.
const maxFailing = 1024

const (
	firstHold = time.Second
	longHold  = 30 * time.Second
)

// failures counts the earlier failures of messages by message id. It is needed for classic queues; quorum queues send
// the count with the delivery.
type failures map[string]int

// before returns how often the message failed before this delivery. In ordered mode the broker also counts messages
// that were requeued at a shutdown, so only the failures counted here are used.
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
	// A publisher can set the header on a new message. RabbitMQ passes it on, and overwrites it only when the message
	// fails.
	if !d.Redelivered {
		return 0
	}
	if n, ok := deliveryCount(d.Headers); ok {
		return n
	}
	return f[d.MessageId]
}

// failed records that the message has failed n times.
func (f failures) failed(d *Delivery, n int) {
	if d.MessageId == "" {
		return
	}
	if _, known := f[d.MessageId]; !known && len(f) >= maxFailing {
		for id := range f { // a random one; this only shortens its next hold
			delete(f, id)
			break
		}
	}
	f[d.MessageId] = n
}

// settled removes a message that was settled.
func (f failures) settled(d *Delivery) { delete(f, d.MessageId) }

// holdFor returns how long a failed delivery is held before it is requeued: 1 s doubling to 30 s by the number of
// earlier failures. Without a hold, a message that keeps failing would cycle at the speed of the connection.
func holdFor(failures int) time.Duration {
	hold := firstHold
	for range failures {
		if hold *= 2; hold >= longHold {
			return longHold
		}
	}
	return hold
}

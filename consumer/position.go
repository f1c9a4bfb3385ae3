package consumer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A position is where a Run continues in a stream after it lost its subscription. No error changes it, because a
// refusal does not depend on the stream's content. Only a stream that was declared again is read from
// its beginning: see begins and refused.
type position struct {
	queue     string    // empty before the first subscription
	since     time.Time // when that began
	known     bool      // something was delivered, so that offset is set
	offset    int64     // of the first message that was not settled
	all       bool      // read all of it: it was declared again
	first     fingerprint
	cancelled bool // RabbitMQ cancelled the last consumer
	skipFirst bool // the connection was lost while the first message was awaited: it may be poison
}

// A fingerprint is the identity of a stream: its first message. Retention moves the first offset forward,
// and nothing changes the message at an offset. RabbitMQ offers no other identity over AMQP 0-9-1.
type fingerprint struct {
	known  bool
	offset int64
	sum    [sha256.Size]byte
}

func fingerprintOf(d *amqp.Delivery) (f fingerprint) {
	f.offset, f.known = d.Headers[streamOffset].(int64)
	f.sum = sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %d %s",
		d.MessageId, d.CorrelationId, d.Type, d.AppId, d.UserId, d.ContentType, d.Timestamp.Unix(), d.Body))
	return f
}

// replaces reports whether f begins another stream than old.
func (f fingerprint) replaces(old fingerprint) bool {
	return f.known && old.known && (f.offset < old.offset || f.offset == old.offset && f.sum != old.sum)
}

var errRedeclared = errors.New("the stream was declared again; it is read from its first message now")

// arguments returns the arguments of basic.consume for the queue, which continue at the position.
func (p *position) arguments(queue string, args amqp.Table) amqp.Table {
	if p.queue != queue {
		return args
	}
	args = maps.Clone(args)
	switch {
	case p.known:
		args[streamOffset] = p.offset
	case p.all:
		args[streamOffset] = "first"
	default:
		args[streamOffset] = since(args[streamOffset], time.Since(p.since))
	}
	return args
}

// subscribed records a subscription that began at that time.
func (p *position) subscribed(queue string, began time.Time) {
	if p.queue != queue {
		*p = position{queue: queue, since: began}
	}
	p.cancelled = false
}

// refused records a refused subscription. A missing queue proves nothing if the connection was lost
// before, because another node or a proxy may have answered. After a basic.cancel on a living connection it
// means that the stream was deleted.
func (p *position) refused(queue string, err error) {
	if p.queue == queue && p.cancelled && isMissing(err) {
		*p = position{queue: queue, since: time.Now(), all: true}
	}
}

// begins records the first message of the stream. An error means that the stream was declared again.
func (p *position) begins(queue string, d *amqp.Delivery) error {
	f := fingerprintOf(d)
	if !f.replaces(p.first) {
		if f.known {
			p.first = f
		}
		return nil
	}
	*p = position{queue: queue, since: time.Now(), all: true, first: f}
	return errRedeclared
}

// offsetOf returns the offset of a delivery. The message at 0 is the first one of its stream.
func (p *position) offsetOf(d *amqp.Delivery) int64 {
	n, ok := d.Headers[streamOffset].(int64)
	if ok && n == 0 && !p.first.known {
		p.first = fingerprintOf(d)
	}
	return n
}

// since returns the offset that means now what offset meant some time ago. An interval is measured by the
// broker's clock alone. It is rounded up, because its unit is a second.
func since(offset any, elapsed time.Duration) any {
	s, ok := offset.(string)
	if !ok || s == "first" {
		return offset
	}
	seconds := int64(elapsed/time.Second) + 2
	if m := streamInterval.FindStringSubmatch(s); m != nil {
		n, _ := strconv.ParseInt(m[1], 10, 64)
		seconds += n * intervalUnits[m[2]]
	}
	return fmt.Sprintf("%ds", seconds)
}

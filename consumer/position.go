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

// A position is the point at which a Run continues to read a stream after it lost its subscription. Errors do not
// change it, because a refusal does not depend on the content of the stream. Only a redeclared stream is read from
// its first message: see begins and refused.
type position struct {
	queue     string    // empty before the first subscription
	since     time.Time // start of the first subscription
	known     bool      // offset is set: a message was delivered
	offset    int64     // offset of the first unsettled message
	all       bool      // read from the first message: the stream was redeclared
	first     fingerprint
	cancelled bool // RabbitMQ cancelled the last consumer
	skipFirst bool // the connection was lost while the first message was awaited, which may be poison
}

// A fingerprint identifies a stream by its first message. Retention increases the first offset; the message at an
// offset never changes. RabbitMQ offers no other identity over AMQP 0-9-1.
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

// replaces reports whether f belongs to another stream than old.
func (f fingerprint) replaces(old fingerprint) bool {
	return f.known && old.known && (f.offset < old.offset || f.offset == old.offset && f.sum != old.sum)
}

var errRedeclared = errors.New("the stream was declared again and is now read from its first message")

// arguments returns the arguments of basic.consume for the queue, adjusted to continue at the position.
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

// subscribed records a subscription and the time at which it started.
func (p *position) subscribed(queue string, began time.Time) {
	if p.queue != queue {
		*p = position{queue: queue, since: began}
	}
	p.cancelled = false
}

// refused records a refused subscription. A missing queue proves nothing after a lost connection, because another
// node or a proxy may have answered. After a basic.cancel on an open connection it means that the stream was deleted.
func (p *position) refused(queue string, err error) {
	if p.queue == queue && p.cancelled && isMissing(err) {
		*p = position{queue: queue, since: time.Now(), all: true}
	}
}

// begins records the first message of the stream. An error means that the stream was redeclared.
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

// offsetOf returns the offset of a delivery. The message at offset 0 is the first one of its stream.
func (p *position) offsetOf(d *amqp.Delivery) int64 {
	n, ok := d.Headers[streamOffset].(int64)
	if ok && n == 0 && !p.first.known {
		p.first = fingerprintOf(d)
	}
	return n
}

// since returns the offset that refers to the same time as offset did, elapsed ago. An interval is measured by the
// broker's clock only. It is rounded up, because its unit is a second.
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

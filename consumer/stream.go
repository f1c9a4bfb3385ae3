package consumer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// streamOffset names an argument of basic.consume, and a header of deliveries from a stream.
const streamOffset = "x-stream-offset"

// A position is where a Run continues in a stream after it lost its subscription. No error changes it, because a
// refusal does not depend on the stream's content. Only a stream that was declared again is read from
// its beginning: see identify and refusedStream.
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

// streams reports whether the queue is known to be a stream.
func (c Config) streams() bool {
	_, ok := c.Arguments[streamOffset]
	return ok
}

// arguments returns the arguments of basic.consume.
func (r *run) arguments(queue string) amqp.Table {
	p := &r.position
	if p.queue != queue {
		return r.cfg.Arguments
	}
	args := maps.Clone(r.cfg.Arguments)
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

// subscribedStream records a subscription that began at that time, and requests the stream's first message on
// a second channel. If RabbitMQ refuses that, a redeclared stream is not recognised.
func (s *session) subscribedStream(ctx context.Context, began time.Time) {
	if !s.run.cfg.streams() {
		return
	}
	if s.run.position.queue != s.queue {
		s.run.position = position{queue: s.queue, since: began}
	}
	s.run.position.cancelled = false
	if s.run.position.skipFirst {
		return
	}
	s.awaitsFirst = true
	var err error
	if s.firstCh, err = wire.Channel(ctx, s.ac); err == nil {
		s.first, err = wire.Call(ctx, s.ac, func() (<-chan amqp.Delivery, error) {
			if err := s.firstCh.Qos(1, 0, false); err != nil {
				return nil, err
			}
			return s.firstCh.Consume(s.queue, "first-"+rand.Text()[:tagSuffix], false, false, false, false, amqp.Table{streamOffset: "first"})
		})
	}
	if err != nil {
		s.log.Debug("consumer: the stream's first message cannot be read", "error", err)
	}
}

// identify compares the stream's first message with the one of the subscription before. An error means that
// the stream was declared again.
func (s *session) identify(d *amqp.Delivery) error {
	s.first, s.awaitsFirst = nil, false
	s.closeFirst()
	p, f := &s.run.position, fingerprintOf(d)
	if !f.replaces(p.first) {
		if f.known {
			p.first = f
		}
		return nil
	}
	s.redeclared = true
	*p = position{queue: s.queue, since: time.Now(), all: true, first: f}
	return errRedeclared
}

// offset returns the offset of a delivery. The message at 0 is the first one of its stream.
func (s *session) offset(d *amqp.Delivery) int64 {
	n, ok := d.Headers[streamOffset].(int64)
	if first := &s.run.position.first; ok && n == 0 && !first.known {
		*first = fingerprintOf(d)
	}
	return n
}

func (s *session) closeFirst() {
	if s.firstCh == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := wire.Do(ctx, s.ac, s.firstCh.Close); err != nil {
		s.log.Debug("consumer: channel not closed cleanly", "error", err)
	}
	s.firstCh = nil
}

// refusedStream notes a refused subscription. A missing queue proves nothing if the connection was lost
// before, because another node or a proxy may have answered. After a basic.cancel on a living connection it
// means that the stream was deleted.
func (r *run) refusedStream(queue string, err error) {
	if p := &r.position; p.queue == queue && p.cancelled && isMissing(err) {
		*p = position{queue: queue, since: time.Now(), all: true}
	}
}

// remember records the position of the session's stream.
func (s *session) remember() {
	if !s.run.cfg.streams() || s.redeclared {
		return
	}
	p := &s.run.position
	var lost *LostError
	if errors.As(s.why, &lost) {
		p.cancelled = lost.Err == nil
		p.skipFirst = p.skipFirst || s.awaitsFirst && wire.HardClose(lost.Err)
	}
	if s.ledger.end > 0 {
		p.known, p.offset = true, s.ledger.unread()
	}
}

var (
	streamInterval = regexp.MustCompile(`^([0-9]+)([YMDhms])$`)
	intervalUnits  = map[string]int64{"Y": 365 * 86400, "M": 30 * 86400, "D": 86400, "h": 3600, "m": 60, "s": 1}
)

// checkStreamOffset refuses offsets on which RabbitMQ closes the whole connection.
func checkStreamOffset(args amqp.Table) *validate.Problem {
	offset, ok := args[streamOffset]
	if !ok {
		return nil
	}
	field := "[" + validate.Quote(streamOffset) + "]"
	switch v := offset.(type) {
	case int, int8, int16, int32, int64, uint8, uint16, uint32, time.Time:
		return nil
	case string:
		if v == "first" || v == "last" || v == "next" || streamInterval.MatchString(v) {
			return nil
		}
		return &validate.Problem{Field: field, Problem: validate.Quote(v) + " is no offset", Fix: `use "first", "last", "next", an interval such as "5m", a number or a time`}
	default:
		return &validate.Problem{Field: field, Problem: fmt.Sprintf("a %T is no offset", v), Fix: "use a string, an integer or a time"}
	}
}

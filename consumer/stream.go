package consumer

import (
	"fmt"
	"maps"
	"regexp"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// streamOffset names an argument of basic.consume, and a header of what a stream delivers.
const streamOffset = "x-stream-offset"

// A position is where a Run goes on in a stream after it lost its subscription.
type position struct {
	queue  string // empty: no position yet
	offset int64
}

// streams reports whether the queue is a stream for sure.
func (c Config) streams() bool {
	_, ok := c.Arguments[streamOffset]
	return ok
}

// arguments returns the arguments of basic.consume.
func (r *run) arguments(queue string) amqp.Table {
	if r.position.queue != queue {
		return r.cfg.Arguments
	}
	args := maps.Clone(r.cfg.Arguments)
	args[streamOffset] = r.position.offset
	return args
}

// remember takes down where the session's stream is to be read on.
func (s *session) remember() {
	if s.run.cfg.streams() && s.ledger.end > 0 {
		s.run.position = position{s.queue, s.ledger.unread()}
	}
}

var streamInterval = regexp.MustCompile(`^[0-9]+[YMDhms]$`)

// checkStreamOffset refuses offsets on which RabbitMQ closes the whole connection.
func checkStreamOffset(args amqp.Table) *wire.Problem {
	offset, ok := args[streamOffset]
	if !ok {
		return nil
	}
	field := "[" + wire.Quote(streamOffset) + "]"
	switch v := offset.(type) {
	case int, int8, int16, int32, int64, uint8, uint16, uint32, time.Time:
		return nil
	case string:
		if v == "first" || v == "last" || v == "next" || streamInterval.MatchString(v) {
			return nil
		}
		return &wire.Problem{Field: field, Problem: wire.Quote(v) + " is no offset", Fix: `use "first", "last", "next", an interval such as "5m", a number or a time`}
	default:
		return &wire.Problem{Field: field, Problem: fmt.Sprintf("a %T is no offset", v), Fix: "use a string, an integer or a time"}
	}
}

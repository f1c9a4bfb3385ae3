package consumer

import (
	"runtime/debug"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// enter records a delivery in the ledger. After an invalid delivery tag it closes the connection, because the state
// of the channel is unknown.
func (s *session) enter(d *amqp.Delivery) bool {
	a := arrival{at: time.Now(), messageID: d.MessageId}
	if s.state.cfg.streams() {
		a.offset = s.state.position.offsetOf(d)
	}
	if s.ledger.delivered(d.DeliveryTag, a) {
		if d.Redelivered {
			s.totals.redelivered++
		}
		return true
	}
	s.log.ErrorContext(s.state.ctx(), "consumer: invalid delivery tag from the broker; closing the connection", "role", s.role(), "delivery_tag", d.DeliveryTag)
	wire.Kill(s.ac)
	return false
}

// arrive processes a delivery from the broker.
func (s *session) arrive(d amqp.Delivery) {
	if !s.enter(&d) {
		return
	}
	if reason, ok := wire.Unreadable(d.Headers); ok {
		s.refuse(&d, reason)
		return
	}
	if most := s.state.cfg.MaxBodySize; most > 0 && len(d.Body) > most {
		s.log.WarnContext(s.state.ctx(), "consumer: message rejected: its body is larger than Config.MaxBodySize", "message_id", d.MessageId, "bytes", len(d.Body))
		s.warnOfLoss("a rejected message")
		s.totals.rejected++
		dl := s.delivery(d)
		s.settleAfter(s.pace(dl, 0, rejectedFrom(s.queue, dl), nil), d.DeliveryTag, reject)
		s.flush()
		return
	}
	s.out++
	j := job{to: &s.results, d: s.delivery(d), tag: d.DeliveryTag}
	if s.state.cfg.Key != nil {
		var err error
		if j.key, err = keyOf(s.state.cfg.Key, j.d); err != nil {
			s.finish(result{j, outcome{how: fail, err: err}})
			return
		}
	}
	s.state.dispatcher.put(j)
}

// refuse rejects an unreadable message without calling the handler. On a stream that skips the message.
func (s *session) refuse(d *amqp.Delivery, reason string) {
	err := &UnreadableError{Queue: s.queue, MessageID: d.MessageId, Reason: reason}
	after := time.Duration(0)
	if offset, ok := d.Headers[streamOffset]; ok {
		s.log.ErrorContext(s.state.ctx(), "consumer: unreadable message skipped in the stream", "message_id", d.MessageId, "offset", offset, "error", err)
	} else {
		s.totals.rejected++
		s.log.ErrorContext(s.state.ctx(), "consumer: unreadable message rejected", "message_id", d.MessageId, "error", err)
		s.warnOfLoss("a rejected message")
		after = s.pace(s.delivery(*d), 0, true, err) // x-death cannot be read, so the message counts as redelivered
	}
	s.settleAfter(after, d.DeliveryTag, reject)
	s.flush()
}

// keyOf returns the key of a delivery. A panic of Config.Key is returned as an error and counts as a panic of the
// handler.
func keyOf(f func(*Delivery) string, d *Delivery) (key string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f(d), nil
}

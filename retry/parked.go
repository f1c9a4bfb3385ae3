package retry

import (
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// A Parked is a message in a parking queue, and its story as far as its headers tell it.
type Parked struct {
	Message amqp.Publishing // as it is there, headers included

	Queue         string // whose handler failed, or in which it died; empty if nothing tells
	Exchange, Key string // what it had been published to

	Attempts                  int
	FirstFailure, LastFailure time.Time // zero if unknown
	Error, ErrorType, Why     string    // of what RabbitMQ dead-lettered, Why is its reason: delivery_limit, expired, rejected
	History                   []string
	Host, Consumer            string
}

// parkedFrom reads the story of a message in a parking queue.
func parkedFrom(d *amqp.Delivery) Parked {
	m := Parked{Message: amqp.Publishing{
		Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp,
		Type: d.Type, UserId: d.UserId, AppId: d.AppId, Body: d.Body,
	}}
	h := d.Headers
	m.Queue = text(h, HeaderQueue)
	if m.Queue == "" {
		m.died(h)
		return m
	}
	s := read(&consumer.Delivery{Delivery: *d, Queue: m.Queue})
	m.Exchange, m.Key, m.Attempts, m.FirstFailure, m.LastFailure = s.exchange, s.key, s.attempts, s.first, s.last
	m.Error, m.ErrorType, m.Why, m.Host, m.Consumer = s.error, s.errorType, text(h, HeaderWhy), text(h, HeaderHost), text(h, HeaderConsumer)
	for _, e := range s.history {
		m.History = append(m.History, fmt.Sprint(e))
	}
	return m
}

// died reads where RabbitMQ dead-lettered a message that no middleware has parked.
func (m *Parked) died(h amqp.Table) {
	deaths, _ := h["x-death"].([]any)
	if len(deaths) == 0 {
		return
	}
	last, _ := deaths[0].(amqp.Table) // the newest comes first
	m.Queue, m.Why, m.Exchange = text(last, "queue"), text(last, "reason"), text(last, "exchange")
	if keys, _ := last["routing-keys"].([]any); len(keys) > 0 {
		m.Key, _ = keys[0].(string)
	}
}

// again is the message as it goes back to work: its attempts count anew, its history is kept.
func (m *Parked) again(now time.Time) amqp.Publishing {
	own := amqp.Table{
		HeaderQueue: m.Queue, HeaderExchange: m.Exchange, HeaderKey: m.Key,
		HeaderHistory: remember(m.Message.Headers[HeaderHistory], stamp(now)+" replayed"),
	}
	for _, name := range []string{HeaderCC, HeaderExpiration, HeaderUserID, HeaderDropped} {
		if v, ok := m.Message.Headers[name]; ok {
			own[name] = v
		}
	}
	msg := m.Message
	if msg.Expiration != "" {
		own[HeaderExpiration] = msg.Expiration
	}
	if msg.UserId != "" {
		own[HeaderUserID] = msg.UserId
	}
	if cc := msg.Headers["CC"]; cc != nil {
		own[HeaderCC] = cc
	}
	msg.Expiration, msg.UserId = "", ""
	return sendable(msg, own, wire.MaxHeaders)
}

// remember adds an entry to a history, of which the newest are kept.
func remember(history any, entry string) []any {
	old, _ := history.([]any)
	return append(append([]any{}, old[max(0, len(old)+1-maxHistory):]...), entry)
}

// String is one line about the message, without its body and headers.
func (m Parked) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d bytes", m.Message.MessageId, len(m.Message.Body))
	if m.Queue != "" {
		fmt.Fprintf(&b, ", of queue %s", m.Queue)
	}
	if m.Attempts > 0 {
		fmt.Fprintf(&b, ", %d attempts", m.Attempts)
	}
	if !m.LastFailure.IsZero() {
		fmt.Fprintf(&b, ", last %s", stamp(m.LastFailure))
	}
	if m.Why != "" {
		fmt.Fprintf(&b, ", %s", m.Why)
	}
	if m.Error != "" {
		fmt.Fprintf(&b, ": %s", m.Error)
	}
	return b.String()
}

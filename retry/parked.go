package retry

import (
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/validate"
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
	of := *d
	of.Headers = told(d.Headers)
	h := of.Headers
	if m.Queue = text(h, HeaderQueue); m.Queue == "" {
		return m
	}
	s := read(&consumer.Delivery{Delivery: of, Queue: m.Queue})
	m.Exchange, m.Key, m.Attempts, m.FirstFailure, m.LastFailure = s.exchange, s.key, s.attempts, s.first, s.last
	m.Error, m.ErrorType, m.Why, m.Host, m.Consumer = s.error, s.errorType, text(h, HeaderWhy), text(h, HeaderHost), text(h, HeaderConsumer)
	for _, e := range s.history {
		m.History = append(m.History, fmt.Sprint(e))
	}
	return m
}

// told returns the headers of a message's story, after RabbitMQ's word on where the message died. That is newer than the
// story, since whoever writes one leaves out what RabbitMQ counts. If it died in another queue than the story's, its headers
// had only been passed on, and say nothing of that queue.
func told(h amqp.Table) amqp.Table {
	own := amqp.Table{}
	death := lastDeath(h)
	queue := text(death, "queue")
	elsewhere := death != nil && queue != text(h, HeaderQueue)
	for name, v := range h {
		if isOwn(name) && (!elsewhere || name == HeaderDropped) {
			own[name] = v
		}
	}
	if death != nil {
		own[HeaderWhy] = text(death, "reason")
	}
	if elsewhere {
		own[HeaderQueue], own[HeaderExchange], own[HeaderKey] = queue, text(death, "exchange"), ""
		if keys, _ := death["routing-keys"].([]any); len(keys) > 0 {
			own[HeaderKey] = keys[0]
		}
	}
	return own
}

// lastDeath returns where a message died last, other than in the wait and parking queues of its story.
func lastDeath(h amqp.Table) amqp.Table {
	of := text(h, HeaderQueue)
	deaths, _ := h["x-death"].([]any)
	for _, d := range deaths { // the newest comes first
		death, _ := d.(amqp.Table)
		queue := text(death, "queue")
		waited := strings.HasPrefix(queue, of+".wait.") && text(death, "reason") == "expired"
		if queue != "" && (of == "" || !waited && queue != parkingQueue(of)) {
			return death
		}
	}
	return nil
}

// again is the message as it goes back to work: its attempts count anew, its history is kept.
func (m *Parked) again(now time.Time) *outgoing {
	story := told(m.Message.Headers)
	own := amqp.Table{
		HeaderQueue: m.Queue, HeaderExchange: m.Exchange, HeaderKey: m.Key,
		HeaderHistory: remember(story[HeaderHistory], stamp(now)+" replayed"),
	}
	for _, name := range []string{HeaderCC, HeaderExpiration, HeaderUserID, HeaderDropped} {
		if v, ok := story[name]; ok {
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
	return newOutgoing(msg, own)
}

// remember adds an entry to a history, of which the newest are kept.
func remember(history any, entry string) []any {
	old, _ := history.([]any)
	return append(append([]any{}, old[max(0, len(old)+1-maxHistory):]...), entry)
}

// String is one line about the message, without its body and headers. Names and texts of the message are quoted or
// escaped: they may be anybody's.
func (m Parked) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q: %d bytes", m.Message.MessageId, len(m.Message.Body))
	if m.Queue != "" {
		fmt.Fprintf(&b, ", of queue %q", m.Queue)
	}
	if m.Attempts > 0 {
		fmt.Fprintf(&b, ", %d attempts", m.Attempts)
	}
	if !m.LastFailure.IsZero() {
		fmt.Fprintf(&b, ", last %s", stamp(m.LastFailure))
	}
	if m.Why != "" {
		fmt.Fprintf(&b, ", %s", validate.Printable(m.Why))
	}
	if m.Error != "" {
		fmt.Fprintf(&b, ": %s", validate.Printable(m.Error))
	}
	return b.String()
}

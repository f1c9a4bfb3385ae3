package parking

import (
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Message is a message in a parking queue, and its story as far as its headers tell it.
type Message struct {
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
func parkedFrom(d *amqp.Delivery) Message {
	m := Message{Message: history.Publishing(d)}
	of := *d
	of.Headers = told(d.Headers)
	h := of.Headers
	if m.Queue = history.Text(h, history.HeaderQueue); m.Queue == "" {
		return m
	}
	r := history.Read(&of, m.Queue)
	m.Exchange, m.Key, m.Attempts, m.FirstFailure, m.LastFailure = r.Exchange, r.Key, r.Attempts, r.First, r.Last
	m.Error, m.ErrorType, m.Why, m.Host, m.Consumer = r.Error, r.ErrorType, history.Text(h, history.HeaderReason), history.Text(h, history.HeaderHost), history.Text(h, history.HeaderConsumer)
	for _, e := range r.Entries {
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
	queue := history.Text(death, "queue")
	elsewhere := death != nil && queue != history.Text(h, history.HeaderQueue)
	for name, v := range h {
		if history.IsOwn(name) && (!elsewhere || name == history.HeaderDropped) {
			own[name] = v
		}
	}
	if death != nil {
		own[history.HeaderReason] = history.Text(death, "reason")
	}
	if elsewhere {
		own[history.HeaderQueue], own[history.HeaderExchange], own[history.HeaderKey] = queue, history.Text(death, "exchange"), ""
		if keys, _ := death["routing-keys"].([]any); len(keys) > 0 {
			own[history.HeaderKey] = keys[0]
		}
	}
	return own
}

// lastDeath returns where a message died last, other than in the wait and parking queues of its story.
func lastDeath(h amqp.Table) amqp.Table {
	of := history.Text(h, history.HeaderQueue)
	deaths, _ := h["x-death"].([]any)
	for _, d := range deaths { // the newest comes first
		death, _ := d.(amqp.Table)
		queue := history.Text(death, "queue")
		waited := history.IsWaitQueue(queue, of) && history.Text(death, "reason") == "expired"
		if queue != "" && (of == "" || !waited && queue != history.ParkingQueue(of)) {
			return death
		}
	}
	return nil
}

// again is the message as it goes back to work: its attempts count anew, its history is kept.
func (m *Message) again(now time.Time) *history.Copy {
	story := told(m.Message.Headers)
	own := amqp.Table{
		history.HeaderQueue: m.Queue, history.HeaderExchange: m.Exchange, history.HeaderKey: m.Key,
		history.HeaderHistory: history.Append(story[history.HeaderHistory], history.Stamp(now)+" replayed"),
	}
	for _, name := range []string{history.HeaderCC, history.HeaderExpiration, history.HeaderUserID, history.HeaderDropped} {
		if v, ok := story[name]; ok {
			own[name] = v
		}
	}
	return history.NewCopy(m.Message, own)
}

// String is one line about the message, without its body and headers. Names and texts of the message are quoted or
// escaped: they may be anybody's.
func (m Message) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q: %d bytes", m.Message.MessageId, len(m.Message.Body))
	if m.Queue != "" {
		fmt.Fprintf(&b, ", of queue %q", m.Queue)
	}
	if m.Attempts > 0 {
		fmt.Fprintf(&b, ", %d attempts", m.Attempts)
	}
	if !m.LastFailure.IsZero() {
		fmt.Fprintf(&b, ", last %s", history.Stamp(m.LastFailure))
	}
	if m.Why != "" {
		fmt.Fprintf(&b, ", %s", validate.Printable(m.Why))
	}
	if m.Error != "" {
		fmt.Fprintf(&b, ": %s", validate.Printable(m.Error))
	}
	return b.String()
}

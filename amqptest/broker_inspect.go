package amqptest

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/broker"
	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A Queue is what a queue of a [Broker] has at a moment.
type Queue struct {
	Name               string
	Type               string // "classic" or "quorum"
	Durable            bool
	Ready              int // messages that wait for a consumer
	Unacked            int // messages delivered, and not settled
	Delayed            int // messages that wait for their delayed retry
	PendingDeadLetters int // dead letters that nothing takes, kept by the strategy at-least-once
	Consumers          int
}

// A Message is what a message of a [Broker] says. Properties that it does not have are zero.
type Message struct {
	Exchange string
	Key      string // the routing key
	// Headers are the headers as a consumer would get them. Nested tables are map[string]any, arrays []any, timestamps
	// time.Time, decimals float64, numbers of their width on the wire.
	Headers         map[string]any
	ContentType     string
	ContentEncoding string
	DeliveryMode    uint8 // 2 is persistent
	Priority        uint8
	CorrelationID   string
	ReplyTo         string
	Expiration      string
	MessageID       string
	Timestamp       time.Time
	Type            string
	UserID          string
	AppID           string
	Body            []byte

	Redelivered bool      // of one in a queue: it was delivered before
	Expires     time.Time // of one in a queue: when its TTL is over, by the broker's clock; zero for never
}

// A Connection is an open connection of a [Broker].
type Connection struct {
	Name     string // as the client calls it (connection_name)
	User     string
	VHost    string
	Channels int
	Blocked  bool
}

// Queue returns what a queue has. ok is false if there is no such queue.
func (b *Broker) Queue(name string) (q Queue, ok bool) {
	s, ok := b.broker.Queue(b.cfg.VHosts[0], name)
	return newQueue(s), ok
}

// Queues lists the queues by their names.
func (b *Broker) Queues() []Queue {
	var list []Queue
	for _, s := range b.broker.Queues(b.cfg.VHosts[0]) {
		list = append(list, newQueue(s))
	}
	return list
}

func newQueue(s broker.Queue) Queue {
	return Queue{
		Name: s.Name, Type: s.Type, Durable: s.Durable, Ready: s.Ready, Unacked: s.Unacked, Delayed: s.Delayed,
		PendingDeadLetters: s.PendingDeadLetters, Consumers: s.Consumers,
	}
}

// Messages lists what is ready in a queue, the next to be delivered first. It takes nothing out.
func (b *Broker) Messages(queue string) []Message {
	return newMessages(b.broker.Messages(b.cfg.VHosts[0], queue))
}

// Published lists what clients have published, the latest last, also what no queue took: Config.PublishedLimit says how many.
func (b *Broker) Published() []Message { return newMessages(b.broker.Published()) }

// Connections lists the open connections, in no order.
func (b *Broker) Connections() []Connection {
	var list []Connection
	for _, c := range b.broker.Connections() {
		list = append(list, Connection(c))
	}
	return list
}

// Await returns nil when a condition holds. It looks again whenever something changed in the broker, so that the
// condition may ask the broker, and needs no sleep. It returns an error when ctx ends before.
func (b *Broker) Await(ctx context.Context, condition func() bool) error {
	if err := b.broker.Await(ctx, condition); err != nil {
		return fmt.Errorf("amqptest: await: %w", err)
	}
	return nil
}

// AwaitIdle returns nil when nothing is on its way: no delivery is unsettled, no message ready in a queue that has a
// consumer, no confirm held back, nothing unsent. What a client is still to send the broker cannot know. It returns an
// error that says what is not quiet when ctx ends before.
func (b *Broker) AwaitIdle(ctx context.Context) error {
	err := b.broker.Await(ctx, b.broker.Quiet)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("amqptest: not quiet: %w", err)
	for _, q := range b.Queues() {
		if q.Ready+q.Unacked > 0 {
			err = fmt.Errorf("%w; queue %q has %d ready, %d unacked, %d consumers", err, q.Name, q.Ready, q.Unacked, q.Consumers)
		}
	}
	return err
}

func newMessages(from []broker.Message) []Message {
	var list []Message
	for _, m := range from {
		p := m.Properties
		list = append(list, Message{
			Exchange: m.Exchange, Key: m.Key, Headers: headers(m.Headers),
			ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
			CorrelationID: p.CorrelationID, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageID: p.MessageID,
			Timestamp: p.Time(), Type: p.Type, UserID: p.UserID, AppID: p.AppID, Body: m.Body,
			Redelivered: m.Redelivered, Expires: m.Expires,
		})
	}
	return list
}

func headers(t codec.Table) map[string]any {
	if t == nil {
		return nil
	}
	m := make(map[string]any, len(t))
	for _, f := range t {
		m[f.Key] = headerValue(f.Value)
	}
	return m
}

func headerValue(v any) any {
	switch v := v.(type) {
	case codec.Table:
		return headers(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = headerValue(e)
		}
		return list
	case codec.Decimal:
		return float64(v.Value) / math.Pow10(int(v.Scale))
	}
	return v
}

package amqptest

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/broker"
	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A Queue is the state of a queue of a [Broker].
type Queue struct {
	// Name is the queue's name.
	Name string

	// Type is "classic" or "quorum".
	Type string

	// Durable reports whether the queue survives Broker.Stop and Broker.Kill.
	Durable bool

	// Ready is the number of messages ready for delivery.
	Ready int

	// Unacked is the number of unacknowledged messages.
	Unacked int

	// Delayed is the number of messages of a quorum queue that wait for their delayed retry (x-delayed-retry-type).
	Delayed int

	// PendingDeadLetters is the number of dead-lettered messages that the queue keeps because no target queue has accepted them
	// (x-dead-letter-strategy is at-least-once).
	PendingDeadLetters int

	// Consumers is the number of consumers.
	Consumers int
}

// A Message is a message of a [Broker]. Properties that are not set are zero.
type Message struct {
	// Exchange is the exchange that the message was published or dead-lettered to, empty for the default exchange.
	Exchange string

	// Key is the routing key.
	Key string

	// Headers are the headers as a consumer would receive them. Nested tables are map[string]any, arrays []any, timestamps
	// time.Time, decimals float64. Numbers keep their width.
	Headers map[string]any

	// ContentType is the MIME type of the body.
	ContentType string

	// ContentEncoding is the encoding of the body, for example gzip.
	ContentEncoding string

	// DeliveryMode is 2 for a persistent message.
	DeliveryMode uint8

	// Priority is the message's priority.
	Priority uint8

	// CorrelationID connects a reply to its request.
	CorrelationID string

	// ReplyTo is the queue for replies.
	ReplyTo string

	// Expiration is the message's TTL in milliseconds, as a decimal number.
	Expiration string

	// MessageID is the publisher's id of the message.
	MessageID string

	// Timestamp is the time set by the publisher, in whole seconds.
	Timestamp time.Time

	// Type is the publisher's name of the kind of message.
	Type string

	// UserID is the publisher's user.
	UserID string

	// AppID is the publisher's application.
	AppID string

	// Body is the content.
	Body []byte

	// Redelivered is set for a message in a queue that was delivered before.
	Redelivered bool

	// Expires is when the TTL of a message in a queue elapses on the broker's clock, zero for never.
	Expires time.Time
}

// A Connection is an open connection to a [Broker].
type Connection struct {
	// Name is the client's connection_name.
	Name string

	// User is the user that logged in.
	User string

	// VHost is the virtual host.
	VHost string

	// Channels is the number of open channels.
	Channels int

	// Blocked reports whether the connection publishes and is blocked by Broker.Block.
	Blocked bool
}

// Queue returns the state of a queue. ok is false if the queue does not exist.
func (b *Broker) Queue(name string) (q Queue, ok bool) {
	s, ok := b.broker.Queue(b.cfg.VHosts[0], name)
	return newQueue(s), ok
}

// Queues returns the state of all queues, sorted by name.
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

// Messages returns the ready messages of a queue in delivery order. It does not remove them.
func (b *Broker) Messages(queue string) []Message {
	return newMessages(b.broker.Messages(b.cfg.VHosts[0], queue))
}

// Published returns the messages published by clients and by Publish, oldest first, including unroutable ones.
// Config.PublishedLimit bounds their number.
func (b *Broker) Published() []Message { return newMessages(b.broker.Published()) }

// Connections returns the open connections in no particular order.
func (b *Broker) Connections() []Connection {
	var list []Connection
	for _, c := range b.broker.Connections() {
		list = append(list, Connection(c))
	}
	return list
}

// Await waits until condition returns true. The condition is checked after every change in the broker and may call the
// broker, so tests need no sleep. Await returns an error if ctx ends first.
func (b *Broker) Await(ctx context.Context, condition func() bool) error {
	if err := b.broker.Await(ctx, condition); err != nil {
		return fmt.Errorf("amqptest: await: %w", err)
	}
	return nil
}

// AwaitIdle waits until no delivery is unsettled, no queue with consumers has ready messages, no confirm is delayed,
// and everything has been sent. It cannot know what clients will send next. If ctx ends first, the error describes the
// pending work.
func (b *Broker) AwaitIdle(ctx context.Context) error {
	err := b.broker.Await(ctx, b.broker.Idle)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("amqptest: not idle: %w", err)
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

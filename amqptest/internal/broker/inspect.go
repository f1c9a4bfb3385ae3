package broker

import (
	"context"
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A Queue has the fields of amqptest.Queue.
type Queue struct {
	Name, Type                    string
	Durable                       bool
	Ready, Unacked, Delayed       int
	Consumers, PendingDeadLetters int
}

// A Message has the contents of amqptest.Message.
type Message struct {
	Exchange, Key string
	Properties    *codec.Properties
	Headers       codec.Table
	Body          []byte
	Redelivered   bool
	Expires       time.Time
}

// A Connection has the fields of amqptest.Connection.
type Connection struct {
	Name, User, VHost string
	Channels          int
	Blocked           bool
}

func (b *Broker) queue(vhost, name string) *queue {
	if v := b.vhosts[vhost]; v != nil {
		return v.queues[name]
	}
	return nil
}

// Queues returns the queues of a virtual host, sorted by name.
func (b *Broker) Queues(vhost string) []Queue {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.vhosts[vhost]
	if v == nil {
		return nil
	}
	list := []Queue{}
	for _, q := range v.sortedQueues() {
		list = append(list, q.describe())
	}
	return list
}

// Queue returns the state of a queue.
func (b *Broker) Queue(vhost, name string) (Queue, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(vhost, name)
	if q == nil {
		return Queue{}, false
	}
	return q.describe(), true
}

func (q *queue) describe() Queue {
	kind := kindClassic
	if q.quorum {
		kind = kindQuorum
	}
	return Queue{
		Name: q.name, Type: kind, Durable: q.durable, Ready: q.ready, Unacked: q.unsettled, Delayed: len(q.delayed),
		Consumers: len(q.consumers), PendingDeadLetters: len(q.pending),
	}
}

// Messages returns the ready messages of a queue in delivery order.
func (b *Broker) Messages(vhost, name string) []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(vhost, name)
	if q == nil {
		return nil
	}
	list := []Message{}
	for i := -1; i < len(q.bands); i++ {
		for _, e := range q.list(i).all() {
			m := e.describe()
			m.Redelivered, m.Expires = e.isRedelivered(), e.expires
			m.Headers = e.headersIn(q)
			list = append(list, m)
		}
	}
	return list
}

func (m *message) describe() Message {
	return Message{
		Exchange: m.exchange, Key: m.key, Properties: m.properties, Headers: m.headers(0, 0), Body: slices.Clone(m.body),
	}
}

// Published returns the latest published messages, oldest first.
func (b *Broker) Published() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Message, len(b.log))
	for i, m := range b.log {
		list[i] = m.describe()
	}
	return list
}

// Connections returns the open connections.
func (b *Broker) Connections() []Connection {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []Connection{}
	for c := range b.conns {
		if c.vhost != nil && c.channels != nil && !c.leaving {
			list = append(list, Connection{Name: c.name, User: c.user, VHost: c.vhost.name, Channels: len(c.channels), Blocked: c.blockedSent})
		}
	}
	return list
}

// Await waits until condition returns true and checks it after every change. It returns the cause if ctx ends first.
func (b *Broker) Await(ctx context.Context, condition func() bool) error {
	for {
		changed := b.changed()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// changed returns a channel that is closed at the next change.
func (b *Broker) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watch == nil {
		b.watch = make(chan struct{})
	}
	return b.watch
}

// Idle reports whether nothing is unsettled, unsent, ready for a consumer or held.
func (b *Broker) Idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		if len(c.out)+c.writing > 0 {
			return false
		}
	}
	for _, v := range b.vhosts {
		for _, q := range v.queues {
			if q.unsettled > 0 || q.ready > 0 && len(q.consumers) > 0 {
				return false
			}
		}
	}
	return len(b.faults.held)+len(b.confirming) == 0
}

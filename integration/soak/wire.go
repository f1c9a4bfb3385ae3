package soak

import (
	"sync"

	"github.com/amqpkit/amqpkit/amqptest"
)

// observe returns a function that records every event of the proxy in front of a node.
func observe(h *History, node int, seen *traffic) func(amqptest.Event) {
	return func(e amqptest.Event) {
		switch e.Kind {
		case amqptest.Confirmed, amqptest.Nacked:
			seen.notify(e.Name, confirms)
		case amqptest.Delivered:
			seen.notify(e.Name, deliveries)
		}
		h.PutAt(e.At, Record{Wire: &Wire{
			Node: node, Link: e.Link, Addr: e.Addr, Client: e.Name, Event: e.Kind.String(), FromBroker: e.From == amqptest.FromBroker,
			Channel: e.Channel, Tag: e.Tag, Stray: e.UnknownTag, Requeue: e.Requeue, Redelivered: e.Redelivered,
			MessageID: e.MessageID, Key: e.Key, Consumer: e.ConsumerTag, Code: e.Code, Text: e.Text,
		}})
	}
}

// traffic notifies waiters when a client publishes or consumes again.
type traffic struct {
	mu      sync.Mutex
	waiting map[flow][]chan struct{}
}

// A flow is the confirms or the deliveries of one client.
type flow struct {
	client string
	kind   trafficKind
}

type trafficKind int

const (
	confirms trafficKind = iota
	deliveries
)

func newTraffic() *traffic { return &traffic{waiting: map[flow][]chan struct{}{}} }

// next returns a channel that is closed at the client's next confirm or delivery.
func (t *traffic) next(client string, kind trafficKind) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := make(chan struct{})
	t.waiting[flow{client, kind}] = append(t.waiting[flow{client, kind}], c)
	return c
}

func (t *traffic) notify(client string, kind trafficKind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.waiting[flow{client, kind}] {
		close(c)
	}
	delete(t.waiting, flow{client, kind})
}

package kit

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/topology"
)

// DialRaw returns a connection of amqp091-go alone.
func DialRaw(t *testing.T) *amqp.Connection {
	t.Helper()
	ac, err := amqp.Dial(Broker(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	return ac
}

// Declared declares topo and deletes it at the end of the test.
func Declared(t *testing.T, ac *amqp.Connection, topo topology.Topology) {
	t.Helper()
	DeleteAfter(t, topo)
	if err := topo.Declare(t.Context(), ac); err != nil {
		t.Fatal(err)
	}
}

// DeleteAfter deletes the queues and exchanges of topo at the end of the test.
func DeleteAfter(t *testing.T, topo topology.Topology) {
	t.Helper()
	t.Cleanup(func() {
		ch := RawChannel(t)
		for _, q := range topo.Queues {
			if q.Exclusive {
				continue // deleted with its connection
			}
			if _, err := ch.QueueDelete(q.Name, false, false, false); err != nil {
				t.Error(err)
				return
			}
		}
		for _, x := range topo.Exchanges {
			if err := ch.ExchangeDelete(x.Name, false, false); err != nil {
				t.Error(err)
				return
			}
		}
	})
}

// Prefixed returns a function that turns names into unique ones.
func Prefixed(t *testing.T) func(string) string {
	t.Helper()
	prefix := Unique("topology") + "-"
	return func(name string) string { return prefix + name }
}

package billing

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
)

// start starts the service on the broker and waits until it consumes orders. The service stops at the end of the test.
func start(t *testing.T, broker *amqptest.Broker) {
	t.Helper()
	conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{URLs: []string{broker.URL()}, Setup: Topology.Declare})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- Run(ctx, conn, func() { close(ready) }) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, conn.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	<-ready
}

// order publishes an order.
func order(t *testing.T, broker *amqptest.Broker, body string) {
	t.Helper()
	if routed, err := broker.Publish("", "orders", amqptest.Message{Body: []byte(body)}); !routed || err != nil {
		t.Fatalf("Publish = %v, %v", routed, err)
	}
}

// await waits until condition is true and fails the test after 10 s. The broker checks it after every change of its state.
func await(t *testing.T, broker *amqptest.Broker, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := broker.Await(ctx, condition); err != nil {
		t.Fatal(err)
	}
}

// How does the handler treat a message?
func TestValidOrderIsBilledAndInvalidOrderIsDeadLettered(t *testing.T) {
	broker := amqptest.Start(t)
	start(t, broker)
	order(t, broker, `{"ID": "7", "Cents": 1250}`)
	order(t, broker, `{"ID": "8", "Cents": 0}`)
	await(t, broker, func() bool { return len(broker.Published()) == 4 && settled(broker) })

	if got := broker.Messages("invoices"); len(got) != 1 || string(got[0].Body) != "7: 12.50" || got[0].MessageID != "invoice-7" {
		t.Errorf("invoices: %+v", got)
	}
	if got := broker.Messages("orders.dead"); len(got) != 1 || got[0].Headers["x-first-death-reason"] != "rejected" {
		t.Errorf("orders.dead: %+v", got)
	}
}

// settled reports whether the queue orders has neither ready nor unacknowledged messages.
func settled(broker *amqptest.Broker) bool {
	q, _ := broker.Queue("orders")
	return q.Ready == 0 && q.Unacked == 0
}

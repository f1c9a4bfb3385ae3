package parking_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// Two orders were rejected and dead-lettered. They are listed, and replayed into the queue that they came from.
func ExampleReplay() {
	ctx := context.Background()
	conn, p, end := rejectedOrders(ctx)
	defer end()

	messages, err := parking.Peek(ctx, conn, "orders.parked", 10)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range messages {
		fmt.Println(m.Publishing.MessageId, "from", m.Queue, "was", m.Reason)
	}
	result, err := parking.Replay(ctx, conn, p, parking.ReplayConfig{
		Queue: "orders.parked",
		Match: func(m parking.Message) bool { return m.Publishing.MessageId != "order-2" },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Replayed, "replayed,", result.Kept, "still parked")
	// Output:
	// order-1 from orders was rejected
	// order-2 from orders was rejected
	// 1 replayed, 1 still parked
}

// The parked messages are saved to a file and published again from it.
func ExampleExport() {
	ctx := context.Background()
	conn, p, end := rejectedOrders(ctx)
	defer end()

	var file bytes.Buffer
	exported, err := parking.Export(ctx, conn, "orders.parked", &file)
	if err != nil {
		log.Fatal(err)
	}
	imported, err := parking.Import(ctx, p, "archive", &file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(exported, "exported,", imported, "imported")
	// Output: 2 exported, 2 imported
}

// rejectedOrders starts a broker with two messages in the queue orders.parked.
func rejectedOrders(ctx context.Context) (*amqpkit.Conn, *producer.Producer, func()) {
	broker, err := amqptest.New(amqptest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	queues := topology.Topology{Queues: []topology.Queue{
		{Name: "orders", DeadLetter: &topology.DeadLetter{RoutingKey: "orders.parked"}},
		{Name: "orders.parked", DeliveryLimit: new(topology.Unlimited)},
		{Name: "archive"},
	}}
	conn, err := amqpkit.Open(amqpkit.Config{URLs: []string{broker.URL()}, Setup: queues.Declare, Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	p, err := producer.New(conn, producer.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	for _, id := range []string{"order-1", "order-2"} {
		if err := p.Publish(ctx, "", "orders", amqp.Publishing{MessageId: id}); err != nil {
			log.Fatal(err)
		}
		d, _, err := consumer.Get(ctx, conn, "orders")
		if err != nil {
			log.Fatal(err)
		}
		if err := d.Reject(false); err != nil {
			log.Fatal(err)
		}
	}
	if err := broker.Await(ctx, func() bool { return len(broker.Messages("orders.parked")) == 2 }); err != nil {
		log.Fatal(err)
	}
	return conn, p, func() {
		_ = p.Close(ctx)
		_ = conn.Close(ctx)
		_ = broker.Close()
	}
}

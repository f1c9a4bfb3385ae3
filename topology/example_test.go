package topology_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

func ExampleTopology_Validate() {
	orders := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "orders"}},
		Queues: []topology.Queue{{
			Name:       "billing",
			Exclusive:  true,
			MessageTTL: 1500 * time.Microsecond,
			Arguments:  amqp.Table{"x-max-lenght": 1000},
		}},
		Bindings: []topology.Binding{{Source: "orders"}},
	}
	fmt.Println(orders.Validate())
	// Output:
	// topology: Exchanges[0] "orders".Type: is empty; choose Direct, Fanout, Topic or Headers
	// topology: Queues[0] "billing".Exclusive: RabbitMQ refuses it on a quorum queue; set Type: topology.Classic, or leave it out
	// topology: Queues[0] "billing".MessageTTL: 1.5ms is not a multiple of 1ms; round it
	// topology: Queues[0] "billing".Arguments["x-max-lenght"]: RabbitMQ does not know this argument and would ignore it; did you mean "x-max-length"?
	// topology: Bindings[0].Queue: is empty; set Queue or Exchange
}

func ExampleTopology_Lint() {
	orders := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Direct}},
		Queues: []topology.Queue{
			{Name: "billing", DeadLetter: &topology.DeadLetter{RoutingKey: "billing.dead"}},
			{Name: "billing.dead"},
		},
		Bindings: []topology.Binding{{Source: "orders", Queue: "billing", Key: "order.*"}},
	}
	findings, err := orders.Lint("4.3", "unbounded-queue", "default-delivery-limit@audit")
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range findings {
		fmt.Printf("%s %s of %s\n    %s\n    %s\n    %s\n", f.Severity, f.ID, f.Object, f.Problem, f.Consequence, f.Fix)
	}
	// Output:
	// warning dead-letter-queue-limit of queue "billing.dead"
	//     is 20, and messages that died of the delivery limit of "billing" arrive with a delivery count of 21
	//     RabbitMQ drops such a message when it is requeued for the first time, which reading it without an acknowledgement does
	//     set DeliveryLimit: new(topology.Unlimited)
	// warning literal-wildcard of binding of queue "billing" to exchange "orders" with key "order.*"
	//     "order.*" contains "*", and exchange "orders" is a direct exchange, which has no wildcards
	//     Only messages with exactly this text in their routing key match
	//     set the exchange's Type to topology.Topic, or bind each routing key
}

func ExampleConflictError() {
	err := error(&topology.ConflictError{Object: `queue "billing"`, Attribute: "x-message-ttl", Has: "60000", Want: "none"})
	var conflict *topology.ConflictError
	if errors.As(err, &conflict) {
		fmt.Println(conflict.Object, "has", conflict.Attribute, conflict.Has)
	}
	fmt.Println(err)
	// Output:
	// queue "billing" has x-message-ttl 60000
	// topology: queue "billing": x-message-ttl is 60000 on the broker and none in the declaration; change the declaration to match, or use another name, or empty the queue, delete it and declare it again
}

func ExampleTopology_Declare() {
	ac, err := amqp.Dial("amqp://guest:guest@localhost:5672/")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = ac.Close() }()

	events := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "events", Type: topology.Topic}},
		Queues: []topology.Queue{
			{Name: "audit", DeadLetter: &topology.DeadLetter{RoutingKey: "audit.failed"}},
			{Name: "audit.failed", DeliveryLimit: new(topology.Unlimited)},
		},
		Bindings: []topology.Binding{{Source: "events", Queue: "audit", Key: "#"}},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := events.Declare(ctx, ac); err != nil {
		log.Fatal(err)
	}
}

func ExampleMerge() {
	shared := topology.Topology{Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}}}
	billing := topology.Topology{
		Exchanges: shared.Exchanges,
		Queues:    []topology.Queue{{Name: "billing"}},
		Bindings:  []topology.Binding{{Source: "orders", Queue: "billing", Key: "order.paid"}},
	}
	all := topology.Merge(shared, billing, topology.Queues("audit", "mail"))
	fmt.Println(len(all.Exchanges), "exchange,", len(all.Queues), "queues")

	other := topology.Topology{Queues: []topology.Queue{{Name: "audit", Type: topology.Stream}}}
	fmt.Println(topology.Merge(all, other).Validate())
	// Output:
	// 1 exchange, 3 queues
	// topology: Queues[3] "audit".Name: is also the name of Queues[1], but x-queue-type is "quorum" there and "stream" here; declare it once, or make both equal
}

// The queue itself delays failed messages. After three attempts a message is parked.
func ExampleDelayedRetry() {
	broker, err := amqptest.New(amqptest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	orders := topology.Topology{Queues: []topology.Queue{
		{
			Name:          "orders",
			DelayedRetry:  &topology.DelayedRetry{Min: 10 * time.Millisecond, Max: time.Minute}, // after 10 ms, then 20 ms
			DeliveryLimit: new(2),
			DeadLetter:    &topology.DeadLetter{RoutingKey: "orders.parked", Strategy: topology.AtLeastOnce},
			Overflow:      topology.RejectPublish, // AtLeastOnce needs it
		},
		{Name: "orders.parked", DeliveryLimit: new(topology.Unlimited)},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{broker.URL()}, Setup: orders.Declare})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)
	if err := p.Publish(ctx, "", "orders", amqp.Publishing{Body: []byte("a book")}); err != nil {
		log.Fatal(err)
	}

	c, err := consumer.New(conn, consumer.Config{Queue: "orders"}, func(_ context.Context, d *consumer.Delivery) error {
		fmt.Printf("cannot ship %s\n", d.Body)
		return consumer.RejectRequeue(errors.New("the warehouse is closed")) // rejected with requeue
	})
	if err != nil {
		log.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(running) }()
	if err := broker.Await(ctx, func() bool { return len(broker.Messages("orders.parked")) == 1 }); err != nil {
		log.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	fmt.Printf("parked: %s\n", broker.Messages("orders.parked")[0].Body)
	// Output:
	// cannot ship a book
	// cannot ship a book
	// cannot ship a book
	// parked: a book
}

func ExampleDiff() {
	wanted := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}},
		Queues:    []topology.Queue{{Name: "billing", MessageTTL: time.Hour}, {Name: "shipping"}},
		Bindings:  []topology.Binding{{Source: "orders", Queue: "shipping", Key: "order.paid"}},
	}
	existing := topology.Existing{ // usually from package management
		Topology: topology.Topology{
			Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}},
			Queues:    []topology.Queue{{Name: "billing", MessageTTL: time.Minute}},
		},
		Usage: map[string]topology.Usage{"billing": {Messages: 1203, Consumers: 2}},
	}
	plan := topology.Diff(wanted, existing)
	fmt.Println(plan)
	// Output:
	// ~ queue "billing" (quorum, 1203 messages, 2 consumers): recreate
	//     x-message-ttl: 60000 -> 3600000
	// + queue "shipping" (quorum)
	// + binding of queue "shipping" to exchange "orders" with key "order.paid"
	// 2 to create, 1 to recreate, 1 unchanged
}

package topology_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

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
	// topology: Queues[0] "billing".Arguments["x-max-lenght"]: RabbitMQ knows no such argument and would ignore it; did you mean "x-max-length"?
	// topology: Bindings[0].Queue: is empty; set Queue, or Exchange
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

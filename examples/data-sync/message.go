package main

import (
	"encoding/json"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/topology"
)

// An Order is a row of table orders. Both databases have that table.
type Order struct {
	ID       int64  `json:"id"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
	Status   string `json:"status"`
}

// A Change is the body of a message about one order. It holds the whole row, so that it can be applied to a database that
// does not have the row.
type Change struct {
	Order   Order `json:"order"`
	Deleted bool  `json:"deleted"`
}

// A Request asks the orders service for a part of a snapshot: the rows after an id.
type Request struct {
	After int64 `json:"after"`
}

const (
	exchange     = "data-sync.orders"   // changes of orders
	billingQueue = "data-sync.billing"  // changes for the billing service
	requestQueue = "data-sync.requests" // requests for the orders service
)

// The orders service declares the exchange and the queue that it reads. Subscribers declare their own queues.
var ordersTopology = topology.Topology{
	Exchanges: []topology.Exchange{{Name: exchange, Type: topology.Fanout}},
	Queues:    []topology.Queue{{Name: requestQueue, DeliveryLimit: new(topology.Unlimited)}},
}

// A message that RabbitMQ drops would leave the databases different: so the queue has no delivery limit. One process at a
// time consumes, so that several billing processes keep the order of each row.
var billingTopology = topology.Topology{
	Exchanges: ordersTopology.Exchanges,
	Queues: []topology.Queue{
		{Name: billingQueue, DeliveryLimit: new(topology.Unlimited), SingleActiveConsumer: true},
		ordersTopology.Queues[0],
	},
	Bindings: []topology.Binding{{Source: exchange, Queue: billingQueue}},
}

// message returns the message for a change. Its ordering key is the row, so that changes of one row arrive in order.
func (c Change) message() outbox.Message {
	return outbox.Message{Exchange: exchange, OrderingKey: orderKey(c.Order.ID), Publishing: publishing(c, orderKey(c.Order.ID))}
}

func (r Request) message() outbox.Message {
	return outbox.Message{Key: requestQueue, Publishing: publishing(r, "")}
}

func orderKey(id int64) string { return fmt.Sprint("order ", id) }

// rowHeader holds the ordering key for the consumer.
const rowHeader = "row"

func publishing(body any, row string) amqp.Publishing {
	text, _ := json.Marshal(body) // these types can always be encoded
	p := amqp.Publishing{ContentType: "application/json", Body: text}
	if row != "" {
		p.Headers = amqp.Table{rowHeader: row}
	}
	return p
}

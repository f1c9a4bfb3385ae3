// Package billing is a small service, there to show how one is tested with package amqptest: see its tests, and
// docs/testing.md. It takes orders, sends an invoice for each, and a reminder a day later.
package billing

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// Topology is what the service declares. An order that can never be billed ends in orders.dead. A reminder waits in
// reminders.wait until its time is over, and is dead-lettered into reminders.
var Topology = topology.Topology{
	Queues: []topology.Queue{
		{Name: "orders", DeadLetter: &topology.DeadLetter{RoutingKey: "orders.dead"}},
		{Name: "orders.dead", DeliveryLimit: new(topology.Unlimited)},
		{Name: "invoices"},
		{Name: "reminders.wait", MessageTTL: 24 * time.Hour, DeadLetter: &topology.DeadLetter{RoutingKey: "reminders"}},
		{Name: "reminders"},
	},
}

// An Order is what a message in the queue orders says.
type Order struct {
	ID    string
	Cents int
}

// Run bills orders until ctx ends. ready is called once it does.
func Run(ctx context.Context, conn *amqpkit.Conn, ready func()) error {
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	defer p.Close(context.WithoutCancel(ctx))
	c, err := consumer.New(conn, consumer.Config{Queue: "orders", DeadLettered: true}, consumer.JSON(bill(p)))
	if err != nil {
		return err
	}
	go func() {
		if c.Ready(ctx) == nil {
			ready()
		}
	}()
	return c.Run(ctx)
}

// bill sends what an order takes. Each message has an id made from the order's: an order may be billed a second time after
// a lost connection, and who reads the invoices can tell.
func bill(p *producer.Producer) func(context.Context, Order) error {
	return func(ctx context.Context, o Order) error {
		if o.Cents <= 0 {
			return consumer.Reject(fmt.Errorf("order %s: nothing to pay", o.ID))
		}
		text := fmt.Appendf(nil, "%s: %d.%02d", o.ID, o.Cents/100, o.Cents%100)
		if err := p.Publish(ctx, "", "invoices", amqp.Publishing{MessageId: "invoice-" + o.ID, Body: text}); err != nil {
			return err // the order is tried again
		}
		return p.Publish(ctx, "", "reminders.wait", amqp.Publishing{MessageId: "reminder-" + o.ID, Body: text})
	}
}

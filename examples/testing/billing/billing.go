// Package billing is a small service that shows how to test with package amqptest: see its tests and docs/testing.md. It
// consumes orders and publishes an invoice for each, and a reminder a day later.
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

// Topology is the topology that the service declares. Invalid orders are dead-lettered to orders.dead. A reminder waits in
// reminders.wait until it expires, and is then dead-lettered to reminders.
var Topology = topology.Topology{
	Queues: []topology.Queue{
		{Name: "orders", DeadLetter: &topology.DeadLetter{RoutingKey: "orders.dead"}},
		{Name: "orders.dead", DeliveryLimit: new(topology.Unlimited)},
		{Name: "invoices"},
		{Name: "reminders.wait", MessageTTL: 24 * time.Hour, DeadLetter: &topology.DeadLetter{RoutingKey: "reminders"}},
		{Name: "reminders"},
	},
}

// An Order is the JSON body of a message in the queue orders.
type Order struct {
	ID    string
	Cents int
}

// Run bills orders until ctx is done. It calls ready once the consumer is subscribed.
func Run(ctx context.Context, conn *amqpkit.Conn, ready func()) error {
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	defer p.Close(context.WithoutCancel(ctx))
	c, err := consumer.New(conn, consumer.Config{Queue: "orders", HasDeadLetterExchange: true}, consumer.JSON(bill(p)))
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

// bill publishes the invoice and the reminder of an order. Their message ids are derived from the order's id, because an
// order may be billed twice if a connection is lost; readers of the invoices can then detect the duplicate.
func bill(p *producer.Producer) func(context.Context, Order) error {
	return func(ctx context.Context, o Order) error {
		if o.Cents <= 0 {
			return consumer.Reject(fmt.Errorf("order %s: nothing to pay", o.ID))
		}
		text := fmt.Appendf(nil, "%s: %d.%02d", o.ID, o.Cents/100, o.Cents%100)
		if err := p.Publish(ctx, "", "invoices", amqp.Publishing{MessageId: "invoice-" + o.ID, Body: text}); err != nil {
			return err // the order is requeued
		}
		return p.Publish(ctx, "", "reminders.wait", amqp.Publishing{MessageId: "reminder-" + o.ID, Body: text})
	}
}

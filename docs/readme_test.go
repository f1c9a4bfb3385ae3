package docs

import (
	"context"
	"errors"
	"log"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// The functions in this file are the code of README.md and pika.md.

func open(ctx context.Context) (*amqpkit.Conn, error) {
	conn, err := amqpkit.Open(amqpkit.Config{
		URLs:  []string{"amqps://billing:secret@rabbit-1/", "amqps://billing:secret@rabbit-2/"},
		Name:  "billing",
		Setup: orders.Declare, // runs on every new session, before the session is used
	})
	if err != nil {
		return nil, err
	}
	return conn, conn.Ready(ctx)
}

var orders = topology.Topology{
	Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}, {Name: "dead", Type: topology.Fanout}},
	Queues: []topology.Queue{
		{Name: "billing", DeadLetter: &topology.DeadLetter{Exchange: "dead"}, DeliveryLimit: new(10)}, // new(10) is a pointer to 10
		{Name: "billing.dead", DeliveryLimit: new(topology.Unlimited)},
	},
	Bindings: []topology.Binding{
		{Source: "orders", Queue: "billing", Key: "order.paid.#"},
		{Source: "dead", Queue: "billing.dead"},
	},
}

func publish(ctx context.Context, conn *amqpkit.Conn, order any) error {
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	defer p.Close(context.Background())

	err = p.PublishJSON(ctx, "orders", "order.paid", order)
	var returned *producer.ReturnedError
	switch {
	case err == nil: // routed to a queue and confirmed
	case errors.As(err, &returned): // no queue is bound for this routing key
	case producer.MaybeDelivered(err): // unknown: publishing again may create a duplicate
	default: // refused or never sent; after ErrNacked another bound queue may still hold it
	}
	return err
}

// An Order is the body of a message.
type Order struct{ ID string }

func bill(context.Context, string) error { return nil }

func consumeOrders(ctx context.Context, conn *amqpkit.Conn) error {
	cfg := consumer.Config{Queue: "billing", Workers: 8}
	return consumer.Run(ctx, conn, cfg, consumer.JSON(func(ctx context.Context, o Order) error {
		return bill(ctx, o.ID)
	}))
}

func retryOrders(ctx context.Context, conn *amqpkit.Conn, p *producer.Producer, handler consumer.Handler) error {
	plan, err := retry.New(retry.Config{
		Queue:  "billing",
		Policy: retry.Exponential(time.Second, time.Minute).MaxAttempts(8).Jitter(0.5),
	})
	if err != nil {
		return err
	}
	setup := amqpkit.Config{Setup: plan.Declare} // declares the wait queues and the parking queue
	cfg := consumer.Config{Queue: "billing", Middleware: []consumer.Middleware{plan.Middleware(p)}}
	_ = setup
	if err := consumer.Run(ctx, conn, cfg, handler); err != nil {
		return err
	}

	result, err := parking.Replay(ctx, conn, p, parking.ReplayConfig{Queue: plan.ParkingQueue(), Rate: 100})
	log.Printf("%d messages returned to their queue", result.Replayed)
	return err
}

func TestReadmeAmqptest(t *testing.T) {
	broker := amqptest.Start(t, amqptest.Config{ManualClock: true})
	startService(t, broker.URL())
	broker.HoldConfirms()          // messages are stored, but not confirmed
	broker.Kill()                  // broker.Start() restores durable queues and messages
	broker.Advance(24 * time.Hour) // TTLs and delays elapse at once
	_ = broker.Messages("orders.dead")
}

func startService(*testing.T, string) {}

func shared(ctx context.Context, ac *amqp.Connection) error {
	hello := topology.Queue{Name: "hello", Type: topology.Classic, Transient: true}
	_, err := hello.Declare(ctx, ac)
	return err
}

var _ = []any{open, publish, consumeOrders, retryOrders, shared}

package producer_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/producer"
)

func Example() {
	ctx := context.Background()
	conn, err := amqpkit.Dial(ctx, "amqp://guest:guest@localhost:5672/")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()

	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Publish(ctx, "orders", "order.paid", amqp.Publishing{Body: []byte("{}")}); err != nil {
		log.Print(err)
	}
	if err := p.Close(ctx); err != nil { // waits for what is unconfirmed
		log.Print(err)
	}
}

func ExampleProducer_PublishAsync() {
	publishAll := func(ctx context.Context, p *producer.Producer, bodies [][]byte) error {
		var receipts []*producer.Receipt
		for _, body := range bodies {
			r, err := p.PublishAsync(ctx, "", "orders", amqp.Publishing{Body: body}) // waits only for room
			if err != nil {
				return err
			}
			receipts = append(receipts, r)
		}
		var errs []error
		for _, r := range receipts {
			errs = append(errs, r.Wait(ctx))
		}
		return errors.Join(errs...)
	}
	_ = publishAll
}

func ExampleMaybeDelivered() {
	for _, err := range []error{
		nil,
		&producer.ReturnedError{Code: 312, Text: "NO_ROUTE", Exchange: "orders", Key: "order.piad"},
		fmt.Errorf("%w: %w", producer.ErrNotPublished, context.DeadlineExceeded),
		fmt.Errorf("%w: %w", producer.ErrUnconfirmed, amqp.ErrClosed),
	} {
		fmt.Printf("%-5v %v\n", producer.MaybeDelivered(err), err)
	}
	// Output:
	// true  <nil>
	// false producer: returned: 312 NO_ROUTE: no queue is bound to exchange "orders" for key "order.piad"
	// false producer: not published: context deadline exceeded
	// true  producer: unconfirmed, may have been stored: Exception (504) Reason: "channel/connection is not open"
}

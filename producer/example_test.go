package producer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"net/http"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
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

func ExampleProducer_PublishJSON() {
	ctx := context.Background()
	broker, err := amqptest.New(amqptest.Config{}) // or a RabbitMQ
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	orders := topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
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

	type order struct {
		ID   int    `json:"id"`
		City string `json:"city"`
	}
	if err := p.PublishJSON(ctx, "", "orders", order{ID: 7, City: "Köln"}); err != nil {
		log.Fatal(err)
	}
	m := broker.Messages("orders")[0]
	fmt.Printf("%s: %s\n", m.ContentType, m.Body)

	err = p.PublishJSON(ctx, "", "orders", math.Inf(1))
	fmt.Println("published:", !errors.Is(err, producer.ErrNotPublished))
	// Output:
	// application/json: {"id":7,"city":"Köln"}
	// published: false
}

// A web handler answers at once while RabbitMQ is unreachable, instead of waiting until its request times out.
func ExampleConfig_failFast() {
	ctx := context.Background()
	conn, err := amqpkit.Open(amqpkit.Config{URLs: []string{"amqp://127.0.0.1:1/"}}) // nothing listens there
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	p, err := producer.New(conn, producer.Config{FailFast: true})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)

	err = p.Publish(ctx, "", "orders", amqp.Publishing{Body: []byte("order 7")})
	if errors.Is(err, producer.ErrNotPublished) {
		fmt.Println("503: try again later")
	}
	fmt.Println("ready:", p.Err() == nil)
	// Output:
	// 503: try again later
	// ready: false
}

// A readiness probe waits until messages can be sent.
func ExampleProducer_Ready() {
	ready := func(p *producer.Producer) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			if err := p.Ready(ctx); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
			}
		}
	}
	_ = ready
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

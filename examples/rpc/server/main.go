// Server answers requests for Fibonacci numbers.
//
//	go run ./examples/rpc/server
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

func main() {
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	requests := topology.Topology{Queues: []topology.Queue{{Name: "rpc.fib"}}}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: requests.Declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	defer p.Close(context.Background())

	// The request is acknowledged once the broker has confirmed the reply. A server that dies in between
	// has the request answered again by the next one, so that the work must bear being done twice.
	c, err := consumer.New(conn, consumer.Config{Queue: "rpc.fib"}, func(ctx context.Context, d *consumer.Delivery) error {
		n, err := strconv.Atoi(string(d.Body))
		if err != nil || n < 0 || n > 90 || d.ReplyTo == "" {
			return consumer.Reject(fmt.Errorf("not a request for fib(0) to fib(90) with a reply address: %q", d.Body))
		}
		fmt.Printf(" [.] fib(%d)\n", n)
		err = p.Publish(ctx, "", d.ReplyTo, amqp.Publishing{
			CorrelationId: d.CorrelationId, // tells the client which request this answers
			Body:          strconv.AppendInt(nil, fib(n), 10),
		})
		if _, gone := errors.AsType[*producer.ReturnedError](err); gone {
			return nil // the client did not wait: nobody wants the reply any more
		}
		return err
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if c.Ready(ctx) == nil {
		fmt.Println(" [*] Waiting for requests. To exit press CTRL+C")
	}
	return <-ended
}

func fib(n int) int64 {
	a, b := int64(0), int64(1)
	for range n {
		a, b = b, a+b
	}
	return a
}

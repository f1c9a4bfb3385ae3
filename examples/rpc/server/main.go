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

	// The consumer acknowledges the request after the broker has confirmed the reply. If the server crashes in between,
	// the request is redelivered and answered again, so processing it twice must be harmless.
	c, err := consumer.New(conn, consumer.Config{Queue: "rpc.fib"}, func(ctx context.Context, d *consumer.Delivery) error {
		n, err := strconv.Atoi(string(d.Body))
		if err != nil || n < 0 || n > 90 || d.ReplyTo == "" {
			return consumer.Reject(fmt.Errorf("not a request for fib(0) to fib(90) with a reply address: %q", d.Body))
		}
		fmt.Printf(" [.] fib(%d)\n", n)
		err = p.Publish(ctx, "", d.ReplyTo, amqp.Publishing{
			CorrelationId: d.CorrelationId, // identifies the request
			Body:          strconv.AppendInt(nil, fib(n), 10),
		})
		if _, ok := errors.AsType[*producer.ReturnedError](err); ok {
			return nil // the client no longer waits for the reply
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

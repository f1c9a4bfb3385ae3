// Receive prints the messages of the queue hello until Ctrl-C. It is the second program of the README.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/topology"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C kills
	conn, err := amqpkit.Dial(ctx, "amqp://guest:guest@localhost:5672/", topology.Queues("hello").Declare)
	if err != nil {
		log.Fatal(err)
	}
	err = consumer.Run(ctx, conn, consumer.Config{Queue: "hello"}, func(_ context.Context, d *consumer.Delivery) error {
		fmt.Printf(" [x] Received %q\n", d.Body)
		return nil // acknowledges the message; an error redelivers it
	})
	if err = errors.Join(err, conn.Close(context.Background())); err != nil {
		log.Fatal(err)
	}
}

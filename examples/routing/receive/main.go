// Receive prints the log lines that emit publishes with one of the given severities.
//
//	go run ./examples/routing/receive warning error
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/topology"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: receive SEVERITY...")
	}
	if err := receive(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func receive(severities []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	logs := topology.Topology{Exchanges: []topology.Exchange{{Name: "logs.direct", Type: topology.Direct}}}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: logs.Declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	c, err := consumer.New(conn, consumer.Config{
		// An exclusive queue is deleted with its connection, so Declare runs before every basic.consume.
		Declare: func(ctx context.Context, ac *amqp.Connection) (string, error) {
			name, err := topology.Queue{Type: topology.Classic, Exclusive: true}.Declare(ctx, ac)
			if err != nil {
				return "", err
			}
			var t topology.Topology
			for _, severity := range severities {
				t.Bindings = append(t.Bindings, topology.Binding{Source: "logs.direct", Queue: name, Key: severity})
			}
			return name, t.Declare(ctx, ac)
		},
	}, func(_ context.Context, d *consumer.Delivery) error {
		fmt.Printf(" [x] %s: %s\n", d.RoutingKey, d.Body)
		return nil
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if c.Ready(ctx) == nil {
		fmt.Println(" [*] Waiting for logs. To exit press CTRL+C")
	}
	return <-ended
}

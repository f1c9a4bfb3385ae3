// Receive prints the log lines whose topic matches one of the patterns. In a pattern, * matches exactly one word and #
// matches zero or more words.
//
//	go run ./examples/topics/receive 'kernel.*' '*.critical'
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
		log.Fatal("usage: receive PATTERN...")
	}
	if err := receive(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func receive(patterns []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	logs := topology.Topology{Exchanges: []topology.Exchange{{Name: "logs.topic", Type: topology.Topic}}}
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
			// A queue receives a message once, even if several of its bindings match.
			var t topology.Topology
			for _, pattern := range patterns {
				t.Bindings = append(t.Bindings, topology.Binding{Source: "logs.topic", Queue: name, Key: pattern})
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

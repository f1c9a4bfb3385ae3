// Receivelogs prints what emitlog publishes while it runs. Each one that runs gets every line.
//
//	go run ./examples/pubsub/receivelogs
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
	if err := receive(); err != nil {
		log.Fatal(err)
	}
}

func receive() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	// The exchange is everyone's: Setup declares it once a session.
	logs := topology.Topology{Exchanges: []topology.Exchange{{Name: "logs", Type: topology.Fanout}}}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: logs.Declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	c, err := consumer.New(conn, consumer.Config{Declare: subscribe}, func(_ context.Context, d *consumer.Delivery) error {
		fmt.Printf(" [x] %s\n", d.Body)
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

// subscribe declares what is this program's alone: an exclusive queue, named by the broker and deleted with
// the connection. So it runs before every subscribe, on the connection that consumes, and returns the name.
func subscribe(ctx context.Context, ac *amqp.Connection) (string, error) {
	name, err := topology.Queue{Type: topology.Classic, Exclusive: true}.Declare(ctx, ac)
	if err != nil {
		return "", err
	}
	return name, topology.Topology{
		Bindings: []topology.Binding{{Source: "logs", Queue: name}},
	}.Declare(ctx, ac)
}

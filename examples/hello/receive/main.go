// Receive prints the messages of the queue hello until Ctrl-C. It acknowledges each message after printing it, and
// reconnects if the broker restarts:
//
//	go run ./examples/hello/receive
//
// Receive declares hello as a durable quorum queue, so the queue and its messages survive a broker restart. pika's
// queue_declare(queue='hello') declares a classic, transient queue. The first declaration determines the type:
//
//   - If a pika script was first, receive logs a warning and shares its queue. The queue and its messages do not survive a
//     broker restart.
//   - If receive or send was first, pika's queue_declare fails with 406, inequivalent arg 'durable'. Use the flag -pika to
//     declare the queue like the scripts. If the durable queue exists, delete it first (rabbitmqctl delete_queue hello).
//   - RabbitMQ 4 can accept the scripts' declaration for the quorum queue, so that their messages are durable too. Set
//     quorum_queue.property_equivalence.relaxed_checks_on_redeclaration = true in rabbitmq.conf.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/topology"
)

// hello is the durable quorum queue. pikas is the queue that pika's queue_declare(queue='hello') declares.
var (
	hello = topology.Queue{Name: "hello"}
	pikas = topology.Queue{Name: "hello", Type: topology.Classic, Transient: true}
)

func main() {
	pika := flag.Bool("pika", false, "declare the queue like pika's queue_declare(queue='hello')")
	flag.Parse()
	if *pika {
		hello = pikas
	}
	if err := receive(); err != nil {
		log.Fatal(err)
	}
}

func receive() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	c, err := consumer.New(conn, consumer.Config{Queue: hello.Name}, func(_ context.Context, d *consumer.Delivery) error {
		fmt.Printf(" [x] Received %q\n", d.Body)
		return nil // acknowledged
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }() // runs until Ctrl-C and reconnects as needed
	if c.Ready(ctx) == nil {
		fmt.Println(" [*] Waiting for messages. To exit press CTRL+C")
	}
	return <-ended
}

// declare runs first on every new connection. If the queue exists as pika declares it, this program uses it, because
// RabbitMQ never changes an existing queue.
func declare(ctx context.Context, ac *amqp.Connection) error {
	_, err := hello.Declare(ctx, ac)
	conflict, ok := errors.AsType[*topology.ConflictError](err)
	if !ok || conflict.Attribute != "durable" || hello.Transient {
		return err
	}
	slog.Warn("queue hello was declared transient, as pika does; sharing it, but the queue and its messages do not survive a broker restart")
	hello = pikas
	_, err = hello.Declare(ctx, ac)
	return err
}

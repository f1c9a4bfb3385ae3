// Receive prints the messages of the queue hello until Ctrl-C. It acknowledges each one after it was
// printed, and keeps going when the broker restarts:
//
//	go run ./examples/hello/receive
//
// It declares hello as a durable quorum queue: neither the queue nor a message is lost with the broker. pika's
// queue_declare(queue='hello') declares a classic, transient queue, and whoever declares a queue first decides
// what it is:
//
//   - A pika script came first: its queue is shared as it is, with a warning, for nothing in it survives a
//     restart of the broker.
//   - This program or send came first: pika's queue_declare fails with 406, inequivalent arg 'durable'. Start
//     with -pika to declare the queue as the scripts do; a durable one that is there already has to be emptied
//     and deleted first (rabbitmqctl delete_queue hello).
//   - RabbitMQ 4 can let unmodified scripts use the quorum queue, which then keeps their messages too. In
//     rabbitmq.conf: quorum_queue.property_equivalence.relaxed_checks_on_redeclaration = true
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

// hello is the queue; pikas is the same queue as pika's queue_declare(queue='hello') declares it.
var (
	hello = topology.Queue{Name: "hello"}
	pikas = topology.Queue{Name: "hello", Type: topology.Classic, Transient: true}
)

func main() {
	pika := flag.Bool("pika", false, "declare the queue as pika's queue_declare(queue='hello') does")
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
	go func() { ended <- c.Run(ctx) }() // until Ctrl-C, through every loss of the broker
	if c.Ready(ctx) == nil {
		fmt.Println(" [*] Waiting for messages. To exit press CTRL+C")
	}
	return <-ended
}

// declare runs on every new session, before anything else does. If a pika script declared the queue first,
// it is shared as it is, for as long as this program runs: RabbitMQ changes no queue that exists.
func declare(ctx context.Context, ac *amqp.Connection) error {
	_, err := hello.Declare(ctx, ac)
	conflict, ok := errors.AsType[*topology.ConflictError](err)
	if !ok || conflict.Attribute != "durable" || hello.Transient {
		return err
	}
	slog.Warn("queue hello was declared transient, as pika does; sharing it: it and its messages do not survive a restart of the broker")
	hello = pikas
	_, err = hello.Declare(ctx, ac)
	return err
}

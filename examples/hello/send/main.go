// Send publishes "Hello World!", or its arguments, to the queue hello. It prints the message after the broker has
// confirmed it:
//
//	go run ./examples/hello/send
//	go run ./examples/hello/send -pika # for a queue shared with pika scripts; see the comment of receive
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
	"strings"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// hello is a durable quorum queue: the queue and its messages survive a broker restart. pikas is the queue that pika's
// queue_declare(queue='hello') declares, which does not.
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
	if err := send(cmp.Or(strings.Join(flag.Args(), " "), "Hello World!")); err != nil {
		log.Fatal(err)
	}
}

func send(body string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// DialConfig fails immediately if the broker is unreachable. If the connection is lost later, amqpkit reconnects
	// until the timeout.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: declare,
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

	// The default exchange "" routes to the queue with the name of the routing key. A nil error means that the message is
	// stored in the queue.
	if err := p.Publish(ctx, "", hello.Name, amqp.Publishing{Body: []byte(body)}); err != nil {
		return err
	}
	fmt.Printf(" [x] Sent %q\n", body)
	return nil
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

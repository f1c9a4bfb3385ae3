// Send publishes "Hello World!", or its arguments, to the queue hello, and says so once the broker has
// confirmed it:
//
//	go run ./examples/hello/send
//	go run ./examples/hello/send -pika # shares hello with pika scripts; receive's comment tells when that is needed
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

// hello is a durable quorum queue: it and its messages survive a restart of the broker. pikas is the same
// queue as pika's queue_declare(queue='hello') declares it: it does not.
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
	if err := send(cmp.Or(strings.Join(flag.Args(), " "), "Hello World!")); err != nil {
		log.Fatal(err)
	}
}

func send(body string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A script should not hang. While the broker is away, Dial fails at once and this program with it: run it
	// again. A connection that is lost later is replaced, until ctx ends.
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

	// The empty exchange routes to the queue that the key names. No error: it is stored there.
	if err := p.Publish(ctx, "", hello.Name, amqp.Publishing{Body: []byte(body)}); err != nil {
		return err
	}
	fmt.Printf(" [x] Sent %q\n", body)
	return nil
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

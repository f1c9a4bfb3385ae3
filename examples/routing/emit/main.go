// Emit publishes a log line with its severity as the routing key.
//
//	go run ./examples/routing/emit error disk is full
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
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

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: emit SEVERITY LINE")
	}
	if err := emit(os.Args[1], strings.Join(os.Args[2:], " ")); err != nil {
		log.Fatal(err)
	}
}

func emit(severity, line string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	logs := topology.Topology{Exchanges: []topology.Exchange{{Name: "logs.direct", Type: topology.Direct}}}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: logs.Declare,
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

	// The broker returns the message if no queue is bound with this routing key.
	err = p.Publish(ctx, "logs.direct", severity, amqp.Publishing{Body: []byte(line)})
	if returned, ok := errors.AsType[*producer.ReturnedError](err); ok {
		fmt.Printf(" [ ] No queue is bound for %q\n", returned.Key)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Printf(" [x] Sent %q: %q\n", severity, line)
	return nil
}

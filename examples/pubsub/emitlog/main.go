// Emitlog publishes a log line to all running receivelogs programs. The line is dropped if none is running.
//
//	go run ./examples/pubsub/emitlog disk is nearly full
package main

import (
	"cmp"
	"context"
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
	if err := emit(cmp.Or(strings.Join(os.Args[1:], " "), "info: Hello World!")); err != nil {
		log.Fatal(err)
	}
}

func emit(line string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	logs := topology.Topology{Exchanges: []topology.Exchange{{Name: "logs", Type: topology.Fanout}}}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: logs.Declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	// Without AllowUnroutable, Publish returns a *producer.ReturnedError if no receivelogs is running.
	p, err := producer.New(conn, producer.Config{AllowUnroutable: true})
	if err != nil {
		return err
	}
	defer p.Close(context.Background())

	if err := p.Publish(ctx, "logs", "", amqp.Publishing{Body: []byte(line)}); err != nil {
		return err
	}
	fmt.Printf(" [x] Sent %q\n", line)
	return nil
}

// Emit publishes a log line with a topic of several words as the routing key, such as FACILITY.SEVERITY.
//
//	go run ./examples/topics/emit kernel.critical out of memory
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
	if len(os.Args) < 3 {
		log.Fatal("usage: emit TOPIC LINE")
	}
	if err := emit(os.Args[1], strings.Join(os.Args[2:], " ")); err != nil {
		log.Fatal(err)
	}
}

func emit(topic, line string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	logs := topology.Topology{Exchanges: []topology.Exchange{{Name: "logs.topic", Type: topology.Topic}}}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: logs.Declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	// The broker drops the line if no receiver's pattern matches the topic.
	p, err := producer.New(conn, producer.Config{AllowUnroutable: true})
	if err != nil {
		return err
	}
	defer p.Close(context.Background())

	if err := p.Publish(ctx, "logs.topic", topic, amqp.Publishing{Body: []byte(line)}); err != nil {
		return err
	}
	fmt.Printf(" [x] Sent %q: %q\n", topic, line)
	return nil
}

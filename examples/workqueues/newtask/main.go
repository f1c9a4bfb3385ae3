// Newtask publishes a task for the workers. The task is the text of the arguments; each dot in it takes a second of work.
//
//	go run ./examples/workqueues/newtask resize photo 7 ...
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
	if err := newTask(cmp.Or(strings.Join(os.Args[1:], " "), "a task...")); err != nil {
		log.Fatal(err)
	}
}

func newTask(task string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	// Both programs declare the queue, so that tasks can be published before the first worker starts.
	tasks := topology.Topology{Queues: []topology.Queue{{Name: "tasks"}}}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: tasks.Declare,
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

	if err := p.Publish(ctx, "", "tasks", amqp.Publishing{Body: []byte(task)}); err != nil {
		return err
	}
	fmt.Printf(" [x] Sent %q\n", task)
	return nil
}

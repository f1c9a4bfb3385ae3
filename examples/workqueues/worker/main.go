// Worker processes the tasks that newtask publishes, one at a time. Start several workers: the broker delivers each task
// to an idle one, and redelivers it to another if the worker crashes before the task is done.
//
//	go run ./examples/workqueues/worker
package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/topology"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C exits immediately, and the broker requeues the current task

	tasks := topology.Topology{Queues: []topology.Queue{{Name: "tasks"}}}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: tasks.Declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	c, err := consumer.New(conn, consumer.Config{
		Queue: "tasks",
		// With long tasks, prefetched deliveries would wait here while other workers are idle.
		Workers:  1,
		Prefetch: 1,
	}, work)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }() // after Ctrl-C, Run waits for the current task for up to Config.DrainTimeout
	if c.Ready(ctx) == nil {
		fmt.Println(" [*] Waiting for tasks. To exit press CTRL+C")
	}
	return <-ended
}

// work processes a task. Its ctx is not cancelled by Ctrl-C but when Config.DrainTimeout has elapsed after it, so that a task can
// be finished.
func work(ctx context.Context, d *consumer.Delivery) error {
	fmt.Printf(" [x] Received %q\n", d.Body)
	select {
	case <-time.After(time.Duration(bytes.Count(d.Body, []byte("."))) * time.Second):
	case <-ctx.Done():
		return ctx.Err() // the task is requeued
	}
	fmt.Printf(" [x] Done %q\n", d.Body)
	return nil
}

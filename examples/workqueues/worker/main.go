// Worker does the tasks that newtask gives, one at a time. Start several: each task goes to one that is free,
// and to another one if its worker dies before it is done.
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
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the task in hand: it returns to the queue

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
		// One task, done or in hand, and none in reserve: where tasks take long, a reserve would wait
		// here while other workers idle.
		Workers:  1,
		Prefetch: 1,
	}, work)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }() // after Ctrl-C the task in hand is finished, within Config.Drain
	if c.Ready(ctx) == nil {
		fmt.Println(" [*] Waiting for tasks. To exit press CTRL+C")
	}
	return <-ended
}

// work's ctx does not end with Ctrl-C but with the drain time: what was begun may be finished.
func work(ctx context.Context, d *consumer.Delivery) error {
	fmt.Printf(" [x] Received %q\n", d.Body)
	select {
	case <-time.After(time.Duration(bytes.Count(d.Body, []byte("."))) * time.Second):
	case <-ctx.Done():
		return ctx.Err() // not done: the task returns to the queue
	}
	fmt.Printf(" [x] Done %q\n", d.Body)
	return nil
}

// Command consume consumes through amqpkit's plain API, with a Consumer per queue.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/bench/side"
)

func main() { side.Main(run) }

func run(ctx context.Context, t side.Task) (side.Result, error) {
	conn, err := amqpkit.Dial(ctx, t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close(ctx)
	// Like the raw side, open the connection before the measurement.
	if _, err := conn.ConsumeConnection(ctx); err != nil {
		return side.Result{}, err
	}

	var n atomic.Int64
	done := make(chan struct{})
	handle := func(context.Context, *consumer.Delivery) error {
		if n.Add(1) == int64(t.Messages) {
			close(done)
		}
		return nil
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, t.Queues)
	clock := side.Start()
	for _, queue := range t.QueueNames() {
		c, err := consumer.New(conn, config(t, queue), handle)
		if err != nil {
			return side.Result{}, err
		}
		go func() { ended <- c.Run(running) }()
	}
	select {
	case <-done:
	case err := <-ended:
		return side.Result{}, fmt.Errorf("stopped after %d of %d deliveries: %w", n.Load(), t.Messages, errors.Join(err, ctx.Err()))
	}
	result := clock.Stop(t.Messages)
	stop()
	for range t.Queues {
		err = errors.Join(err, <-ended)
	}
	return result, err
}

func config(t side.Task, queue string) consumer.Config {
	cfg := consumer.Config{Queue: queue, Workers: t.Goroutines, Prefetch: t.Prefetch}
	if t.How == "lanes" { // a thousand keys: the last three digits of the message ids
		cfg.Key = func(d *consumer.Delivery) string { return d.MessageId[max(0, len(d.MessageId)-3):] }
	}
	if t.Stream {
		cfg.Arguments = amqp.Table{"x-stream-offset": "first"}
	}
	return cfg
}

// Command both publishes to a queue and consumes from it concurrently, through amqpkit's plain API.
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
	"github.com/amqpkit/amqpkit/producer"
)

func main() { side.Main(run) }

func run(ctx context.Context, t side.Task) (side.Result, error) {
	conn, err := amqpkit.Dial(ctx, t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close(ctx)
	// Like the raw side, open both connections before the measurement.
	_, err1 := conn.PublishConnection(ctx)
	_, err2 := conn.ConsumeConnection(ctx)
	p, err3 := producer.New(conn, producer.Config{})
	if err := errors.Join(err1, err2, err3); err != nil {
		return side.Result{}, err
	}

	queue, body := t.QueueNames()[0], make([]byte, t.Size)
	var n atomic.Int64
	done := make(chan struct{})
	cfg := consumer.Config{Queue: queue, Prefetch: t.Prefetch}
	if t.Stream {
		cfg.Arguments = amqp.Table{"x-stream-offset": "first"}
	}
	c, err := consumer.New(conn, cfg, func(context.Context, *consumer.Delivery) error {
		if n.Add(1) == int64(t.Messages) {
			close(done)
		}
		return nil
	})
	if err != nil {
		return side.Result{}, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	clock := side.Start()
	go func() { ended <- c.Run(running) }()
	if err := publish(ctx, p, t, queue, body); err != nil {
		return side.Result{}, err
	}
	select {
	case <-done:
	case err := <-ended:
		return side.Result{}, fmt.Errorf("stopped after %d of %d deliveries: %w", n.Load(), t.Messages, errors.Join(err, ctx.Err()))
	}
	result := clock.Stop(t.Messages)
	stop()
	return result, errors.Join(<-ended, p.Close(ctx))
}

func publish(ctx context.Context, p *producer.Producer, t side.Task, queue string, body []byte) error {
	flight := make([]*producer.Receipt, t.Window)
	for i := range t.Messages {
		slot := i % t.Window
		if r := flight[slot]; r != nil {
			if err := r.Wait(ctx); err != nil {
				return err
			}
		}
		var err error
		flight[slot], err = p.PublishAsync(ctx, "", queue, amqp.Publishing{Body: body})
		if err != nil {
			return err
		}
	}
	for _, r := range flight {
		if r != nil {
			if err := r.Wait(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

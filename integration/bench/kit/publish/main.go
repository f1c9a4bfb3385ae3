// Command publish publishes through amqpkit's plain API with its defaults. The flag -how selects PublishAsync from one
// goroutine (async), Publish from several goroutines (blocking), or PublishAll (all).
package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
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
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return side.Result{}, err
	}
	var publish func(context.Context, *producer.Producer, side.Task, []string, []byte) error
	times := make([]time.Duration, t.Messages)
	switch t.How {
	case "async":
		publish = async
	case "blocking":
		publish = blocking(times)
	case "all":
		publish = all
	default:
		return side.Result{}, fmt.Errorf("-how=%q is not async, blocking or all", t.How)
	}
	queues, body := t.QueueNames(), make([]byte, t.Size)
	clock := side.Start()
	err = publish(ctx, p, t, queues, body)
	result := clock.Stop(t.Messages)
	if err != nil {
		return side.Result{}, err
	}
	if t.How == "blocking" {
		result = result.WithLatencies(times)
	}
	return result, p.Close(ctx)
}

func async(ctx context.Context, p *producer.Producer, t side.Task, queues []string, body []byte) error {
	flight := make([]*producer.Receipt, t.Window)
	for i := range t.Messages {
		slot := i % t.Window
		if r := flight[slot]; r != nil {
			if err := r.Wait(ctx); err != nil {
				return err
			}
		}
		var err error
		flight[slot], err = p.PublishAsync(ctx, "", queues[i%len(queues)], amqp.Publishing{Body: body})
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

// blocking publishes from t.Goroutines goroutines and records the latency of each message in times.
func blocking(times []time.Duration) func(context.Context, *producer.Producer, side.Task, []string, []byte) error {
	return func(ctx context.Context, p *producer.Producer, t side.Task, queues []string, body []byte) error {
		errs := make(chan error, t.Goroutines)
		for first := range t.Goroutines {
			go func() {
				for i := first; i < t.Messages; i += t.Goroutines {
					began := time.Now()
					if err := p.Publish(ctx, "", queues[i%len(queues)], amqp.Publishing{Body: body}); err != nil {
						errs <- err
						return
					}
					times[i] = time.Since(began)
				}
				errs <- nil
			}()
		}
		var failed error
		for range t.Goroutines {
			failed = cmp.Or(failed, <-errs)
		}
		return failed
	}
}

func all(ctx context.Context, p *producer.Producer, t side.Task, queues []string, body []byte) error {
	batch := make([]producer.Message, 1000)
	for i := range batch {
		batch[i] = producer.Message{Key: queues[i%len(queues)], Publishing: amqp.Publishing{Body: body}}
	}
	for left := t.Messages; left > 0; left -= len(batch) {
		for _, err := range p.PublishAll(ctx, batch[:min(left, len(batch))]) {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

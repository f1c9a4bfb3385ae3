package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// Workers that only wait do not keep Run until the end of the drain time.
func TestS88AWaitThatCannotEndInTheDrainEndsAtOnce(t *testing.T) {
	boom := errors.New("database down")
	plan := func(name string, cfg retry.Config) func(b *consumerBench, p *producer.Producer) (string, []consumer.Middleware) {
		return func(b *consumerBench, p *producer.Producer) (string, []consumer.Middleware) {
			cfg.Queue = unique(name)
			cfg.Source = &topology.Queue{Name: cfg.Queue}
			pl, err := retry.New(cfg)
			if err != nil {
				b.t.Fatal(err)
			}
			ac, err := b.conn.ConsumeConnection(b.ctx())
			if err != nil {
				b.t.Fatal(err)
			}
			if err := pl.Declare(b.ctx(), ac); err != nil {
				b.t.Fatal(err)
			}
			for _, q := range pl.Topology().Queues {
				b.t.Cleanup(func() { _, _ = rawChannel(b.t).QueueDelete(q.Name, false, false, false) })
			}
			return cfg.Queue, []consumer.Middleware{pl.Middleware(p)}
		}
	}
	for name, s := range map[string]struct {
		arrange func(b *consumerBench, p *producer.Producer) (string, []consumer.Middleware)
		handler consumer.Handler
	}{
		"an in-process retry": {plan("wait", retry.Config{Policy: retry.Schedule(time.Minute), MaxInProcessDelay: time.Minute}), nil},
		"a batch that gathers": {nil, consumer.Batch(10, time.Hour, func(context.Context, []*consumer.Delivery) []error {
			return []error{boom}
		})},
		"a held failure":      {nil, nil},
		"a postponed message": {nil, func(context.Context, *consumer.Delivery) error { return consumer.Requeue(time.Hour, boom) }},
		"a handler's own wait": {nil, func(ctx context.Context, _ *consumer.Delivery) error {
			<-consumer.Draining(ctx)
			if left, ok := consumer.DrainLeft(ctx); !ok || left > 20*time.Second {
				t.Errorf("%v of the drain time is left, %v", left, ok)
			}
			return consumer.Requeue(0, boom)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newConsumerBench(t)
			var queue string
			var middleware []consumer.Middleware
			if s.arrange != nil {
				queue, middleware = s.arrange(b, newProducer(t, connect(t, amqpkit.Config{}), producer.Config{}))
			} else {
				queue = b.queue(nil)
			}
			begun := make(chan struct{}, 10)
			r := b.start(consumer.Config{Queue: queue, Workers: 10, DrainTimeout: 20 * time.Second, Middleware: middleware}, func(ctx context.Context, d *consumer.Delivery) error {
				begun <- struct{}{}
				if s.handler != nil {
					return s.handler(ctx, d)
				}
				return boom
			})
			b.publish(queue, "m")
			receive(t, begun, "delivery")
			work(200 * time.Millisecond) // until it waits
			began := time.Now()
			r.stopClean()
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("Run ended after %v", took)
			}
			b.expectLeft(queue, 1)
		})
	}
}

package consuming

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// Workers that only wait do not keep Run until the end of the drain time.
func TestS88AWaitThatCannotEndInTheDrainEndsAtOnce(t *testing.T) {
	boom := errors.New("database down")
	plan := func(name string, cfg retry.Config) func(b *kit.ConsumerBench, p *producer.Producer) (string, []consumer.Middleware) {
		return func(b *kit.ConsumerBench, p *producer.Producer) (string, []consumer.Middleware) {
			cfg.Queue = kit.Unique(name)
			cfg.Source = &topology.Queue{Name: cfg.Queue}
			pl, err := retry.New(cfg)
			if err != nil {
				b.T.Fatal(err)
			}
			ac, err := b.Conn.ConsumeConnection(b.Ctx())
			if err != nil {
				b.T.Fatal(err)
			}
			if err := pl.Declare(b.Ctx(), ac); err != nil {
				b.T.Fatal(err)
			}
			for _, q := range pl.Topology().Queues {
				b.T.Cleanup(func() { _, _ = kit.RawChannel(b.T).QueueDelete(q.Name, false, false, false) })
			}
			return cfg.Queue, []consumer.Middleware{pl.Middleware(p)}
		}
	}
	for name, s := range map[string]struct {
		arrange func(b *kit.ConsumerBench, p *producer.Producer) (string, []consumer.Middleware)
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
			return consumer.Requeue(0, boom)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			var queue string
			var middleware []consumer.Middleware
			if s.arrange != nil {
				queue, middleware = s.arrange(b, kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{}))
			} else {
				queue = b.Queue(nil)
			}
			begun := make(chan struct{}, 10)
			r := b.Start(consumer.Config{Queue: queue, Workers: 10, DrainTimeout: 20 * time.Second, Middleware: middleware}, func(ctx context.Context, d *consumer.Delivery) error {
				begun <- struct{}{}
				if s.handler != nil {
					return s.handler(ctx, d)
				}
				return boom
			})
			b.Publish(queue, "m")
			kit.Receive(t, begun, "delivery")
			kit.Work(200 * time.Millisecond) // until it waits
			began := time.Now()
			r.StopClean()
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("Run ended after %v", took)
			}
			b.ExpectLeft(queue, 1)
		})
	}
}

package retrying

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

var errBoom = errors.New("boom")

// A retryBench is a queue with its plan, on the shared broker, with a consumer's Conn and producer.
type retryBench struct {
	t    *testing.T
	name string
	plan *retry.Plan
	conn *amqpkit.Conn
	p    *producer.Producer
	raw  *amqp.Channel // of a connection of its own, that nobody cuts
}

// newRetryBench declares a plan; through, if not empty, is the URL that the bench's Conn connects to. Without a Queue, one is
// declared with the plan.
func newRetryBench(t *testing.T, cfg retry.Config, through string) *retryBench {
	t.Helper()
	if cfg.Queue == "" {
		cfg.Queue = kit.Unique("retry")
		if cfg.Source == nil {
			cfg.Source = &topology.Queue{}
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &retryBench{t: t, name: cfg.Queue, raw: kit.RawChannel(t)}
	var err error
	if b.plan, err = retry.New(cfg); err != nil {
		t.Fatal(err)
	}
	kit.DeleteAfter(t, b.plan.Topology())
	if through == "" {
		through = kit.Broker(t).URL()
	}
	b.conn = kit.Connect(t, amqpkit.Config{URLs: []string{through}, Setup: b.plan.Declare, Logger: slog.New(slog.DiscardHandler)})
	b.p = kit.NewProducer(t, b.conn, producer.Config{Logger: slog.New(slog.DiscardHandler)})
	if err := b.raw.Confirm(false); err != nil {
		t.Fatal(err)
	}
	return b
}

// start consumes with a handler; what it returns ends that, as the test does.
func (b *retryBench) start(workers int, h consumer.Handler) (end func()) {
	b.t.Helper()
	c, err := consumer.New(b.conn, consumer.Config{
		Queue: b.name, Workers: workers, Logger: slog.New(slog.DiscardHandler), Middleware: []consumer.Middleware{b.plan.Middleware(b.p)},
	}, h)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			b.t.Errorf("Run = %v", err)
		}
	})
	b.t.Cleanup(end)
	if err := c.Ready(kit.Within(b.t, 20*time.Second)); err != nil {
		b.t.Fatal(err)
	}
	return end
}

func (b *retryBench) publish(msgs ...amqp.Publishing) {
	b.t.Helper()
	for _, m := range msgs {
		c, err := b.raw.PublishWithDeferredConfirm("", b.name, true, false, m)
		if err != nil {
			b.t.Fatal(err)
		}
		if ok, err := c.WaitContext(kit.Within(b.t, 20*time.Second)); !ok {
			b.t.Fatalf("publish: %v, %v", ok, err)
		}
	}
}

// waiting is how many messages wait in the plan's queues other than the parking queue.
func (b *retryBench) waiting() (n int) {
	b.t.Helper()
	for _, q := range b.plan.Topology().Queues {
		if q.Name != b.plan.ParkingQueue() {
			n += b.ready(q.Name)
		}
	}
	return n
}

func (b *retryBench) ready(queue string) int {
	b.t.Helper()
	q, err := b.raw.QueueDeclarePassive(queue, false, false, false, false, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return q.Messages
}

// parked takes n messages off the parking queue, waiting for them.
func (b *retryBench) parked(n int) []amqp.Delivery {
	b.t.Helper()
	return kit.Take(b.t, b.plan.ParkingQueue(), n)
}

// A call is one of a handler.
type call struct {
	at      time.Time
	attempt int
}

// A callLog notes the calls of handlers, by message id.
type callLog struct {
	mu    sync.Mutex
	calls map[string][]call
}

func (l *callLog) note(ctx context.Context, d *consumer.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = map[string][]call{}
	}
	l.calls[d.MessageId] = append(l.calls[d.MessageId], call{time.Now(), retry.Attempt(ctx)})
}

func (l *callLog) of(id string) []call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]call(nil), l.calls[id]...)
}

// fail returns a handler that fails always.
func (l *callLog) fail(ctx context.Context, d *consumer.Delivery) error {
	l.note(ctx, d)
	return fmt.Errorf("attempt %d: %w", retry.Attempt(ctx), errBoom)
}

package retry_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

var (
	quiet   = slog.New(slog.DiscardHandler)
	errBoom = errors.New("boom")
)

// A bench is a broker in memory, in the time of testing/synctest, with the queue orders and its plan.
type bench struct {
	*amqptest.Broker
	t        *testing.T
	conn     *amqpkit.Conn
	producer *producer.Producer
	plan     *retry.Plan
}

// bubble runs a test with a bench in a bubble of testing/synctest: hours pass in no time.
func bubble(t *testing.T, cfg retry.Config, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newBench(t, cfg)) })
}

func newBench(t *testing.T, cfg retry.Config) *bench {
	t.Helper()
	cfg.Queue, cfg.Logger = "orders", quiet
	if cfg.Source == nil {
		cfg.Source = &topology.Queue{}
	}
	b := &bench{t: t, Broker: amqptest.Start(t, amqptest.Config{InMemory: true}), plan: planned(t, cfg)}
	var err error
	b.conn, err = amqpkit.DialConfig(t.Context(), amqpkit.Config{URLs: []string{b.URL()}, Dialer: b.Dial, Setup: b.plan.Declare, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if b.producer, err = producer.New(b.conn, producer.Config{Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.producer.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func planned(t *testing.T, cfg retry.Config) *retry.Plan {
	t.Helper()
	plan, err := retry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// run consumes orders; end ends that, as does the test.
func (b *bench) run(h consumer.Handler, more ...func(*consumer.Config)) (end func()) {
	b.t.Helper()
	stop := b.begin(h, more...)
	return func() {
		b.t.Helper()
		if err := stop(); err != nil {
			b.t.Errorf("Run = %v", err)
		}
	}
}

// begin is run for a Run that may end with an error.
func (b *bench) begin(h consumer.Handler, more ...func(*consumer.Config)) (end func() error) {
	b.t.Helper()
	cfg := consumer.Config{Queue: "orders", Logger: quiet, Middleware: []consumer.Middleware{b.plan.Middleware(b.producer)}}
	for _, change := range more {
		change(&cfg)
	}
	c, err := consumer.New(b.conn, cfg, h)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	end = sync.OnceValue(func() error { cancel(); return <-ran })
	b.t.Cleanup(func() { _ = end() })
	return end
}

func (b *bench) publish(msg amqp.Publishing) {
	b.t.Helper()
	if err := b.producer.Republish(b.t.Context(), "", "orders", msg); err != nil {
		b.t.Fatal(err)
	}
}

// messages returns the messages of a queue after a while.
func (b *bench) messages(queue string, after time.Duration) []amqptest.Message {
	b.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	return b.Messages(queue)
}

// parked returns the only message in the parking queue, and expects all other queues to be empty.
func (b *bench) parked(after time.Duration) amqptest.Message {
	b.t.Helper()
	ms := b.messages("orders.parked", after)
	if len(ms) != 1 {
		b.t.Fatalf("%d messages are parked, want 1", len(ms))
	}
	for _, q := range b.Queues() {
		if q.Name != "orders.parked" && q.Ready+q.Unacked+q.Pending != 0 {
			b.t.Errorf("something is left in %+v", q)
		}
	}
	return ms[0]
}

// calls notes when a handler was called, and returns an error each time.
type calls struct {
	mu       sync.Mutex
	at       []time.Time
	attempts []int
	bodies   []string
}

func (c *calls) fail(err error) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at = append(c.at, time.Now())
		c.attempts = append(c.attempts, retry.Attempt(ctx))
		c.bodies = append(c.bodies, string(d.Body))
		return err
	}
}

// gaps are the times from one call to the next, to the nearest millisecond.
func (c *calls) gaps() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var gaps []time.Duration
	for i := 1; i < len(c.at); i++ {
		gaps = append(gaps, c.at[i].Sub(c.at[i-1]).Round(time.Millisecond))
	}
	return gaps
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at)
}

func amqpMessage(body string) amqp.Publishing { return amqp.Publishing{Body: []byte(body)} }

package integration

import (
	"context"
	"crypto/rand"
	"log/slog"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/producer"
)

// within is the test's context, bounded: what hangs becomes a failure that says where.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// unique returns a name that no other test uses.
func unique(prefix string) string { return prefix + "-" + rand.Text()[:8] }

// logger writes into the test's own output, which is shown if it fails.
func logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// connect returns a Conn of the test.
func connect(t *testing.T, cfg amqpkit.Config) *amqpkit.Conn {
	t.Helper()
	if len(cfg.URLs) == 0 {
		cfg.URLs = []string{broker(t).URL()}
	}
	if cfg.Name == "" {
		cfg.Name = t.Name()
	}
	if cfg.Logger == nil {
		cfg.Logger = logger(t)
	}
	conn, err := amqpkit.DialConfig(within(t, 30*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Errorf("close the connection: %v", err)
		}
	})
	return conn
}

// stopsBeingReady waits until conn.Err is not nil. It returns false if ctx ends first.
func stopsBeingReady(ctx context.Context, conn *amqpkit.Conn) bool {
	for changed := conn.Changed(); conn.Err() == nil; changed = conn.Changed() {
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// rawChannel opens a channel with amqp091-go alone, for what a test arranges and checks.
func rawChannel(t *testing.T) *amqp.Channel {
	t.Helper()
	ac, err := amqp.Dial(broker(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// quorumQueue declares a quorum queue and returns its name.
func quorumQueue(t *testing.T, args amqp.Table) string {
	t.Helper()
	if args == nil {
		args = amqp.Table{}
	}
	args["x-queue-type"] = "quorum"
	name := unique(t.Name())
	ch := rawChannel(t)
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = rawChannel(t).QueueDelete(name, false, false, false) })
	return name
}

// newProducer returns a Producer of the test.
func newProducer(t *testing.T, conn producer.Connection, cfg producer.Config) *producer.Producer {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = logger(t)
	}
	p, err := producer.New(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.Close(ctx)
	})
	return p
}

// take gets n messages from a queue, acked, and fails the test when there are not as many.
func take(t *testing.T, queue string, n int) []amqp.Delivery {
	t.Helper()
	ch := rawChannel(t)
	if err := ch.Qos(1000, 0, false); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 20*time.Second)
	got := make([]amqp.Delivery, 0, n)
	for len(got) < n {
		select {
		case d, ok := <-deliveries:
			if !ok {
				t.Fatalf("consuming from %s ended after %d of %d messages", queue, len(got), n)
			}
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
			got = append(got, d)
		case <-ctx.Done():
			t.Fatalf("%s held %d messages, want %d", queue, len(got), n)
		}
	}
	return got
}

// ready returns how many messages a queue holds that are not delivered.
func ready(t *testing.T, queue string) int {
	t.Helper()
	q, err := rawChannel(t).QueueDeclarePassive(queue, false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

// waitFor waits until cond is true of something that RabbitMQ gives no event for.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not come true in 20 s")
		}
	}
}

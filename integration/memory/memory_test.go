package memory

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// start returns a connection to a broker in memory that has the queue orders, and a producer on it.
func start(t *testing.T) (*amqptest.Broker, *amqpkit.Conn, *producer.Producer) {
	t.Helper()
	b := amqptest.Start(t, amqptest.Config{InMemory: true, Logged: -1})
	orders := topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{URLs: []string{b.URL()}, Dialer: b.Dial, Setup: orders.Declare})
	if err != nil {
		t.Fatal(err)
	}
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b, conn, p
}

// inUse is what the process holds, once garbage is collected.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse) //nolint:gosec // less than 2^63 bytes
}

func TestMemoryIsFlatOverAMillionMessages(t *testing.T) {
	const n, first, most = 1_000_000, 100_000, 4 << 20
	_, conn, p := start(t)
	handled := make(chan struct{}, 2)
	got := 0
	c, err := consumer.New(conn, consumer.Config{Queue: "orders", Prefetch: 300}, func(context.Context, *consumer.Delivery) error {
		if got++; got == first || got == n {
			handled <- struct{}{}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	publish := func(n int) {
		var last *producer.Receipt
		for range n {
			var err error
			if last, err = p.PublishAsync(t.Context(), "", "orders", amqp.Publishing{Body: []byte("book")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := last.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-handled
	}
	began := time.Now()
	publish(first)
	before := inUse()
	publish(n - first)
	after := inUse()
	t.Logf("%d bytes after %d messages, %d after %d, in %v", before, first, after, n, time.Since(began))
	if after > before+most {
		t.Errorf("it has grown by %d bytes, want %d at most", after-before, most)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMemoryOfTenThousandBlockedPublishersIsSmall(t *testing.T) {
	const n, most = 10_000, 12 << 10
	broker, _, p := start(t)
	broker.HoldConfirms()
	ctx, cancel := context.WithCancel(t.Context())
	before := inUse()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := p.Publish(ctx, "", "orders", amqp.Publishing{}); err == nil {
				t.Error("published")
			}
		})
	}
	waiting := func() bool { q, _ := broker.Queue("orders"); return q.Ready == 1024 && runtime.NumGoroutine() > n }
	if err := broker.Await(t.Context(), waiting); err != nil { // the window is full, and the broker has it
		t.Fatal(err)
	}
	each := (inUse() - before) / n
	t.Logf("%d bytes each", each)
	if each > most {
		t.Errorf("%d bytes for each of %d publishers, want %d at most", each, n, most)
	}
	cancel()
	wg.Wait()
	broker.ReleaseConfirms()
}

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

// start returns an in-memory broker with the queue orders, a connection to it and a producer.
func start(t *testing.T) (*amqptest.Broker, *amqpkit.Conn, *producer.Producer) {
	t.Helper()
	b := amqptest.Start(t, amqptest.Config{InMemory: true, PublishedLimit: -1})
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

// inUse returns the bytes of heap and stack in use after a garbage collection.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse) //nolint:gosec // below 2^63
}

func TestMemoryUseIsConstantOverAMillionMessages(t *testing.T) {
	const n, first, batch, limit = 1_000_000, 100_000, 10_000, 4 << 20
	_, conn, p := start(t)
	handled := make(chan struct{})
	got := 0
	c, err := consumer.New(conn, consumer.Config{Queue: "orders", Prefetch: 300}, func(context.Context, *consumer.Delivery) error {
		if got++; got%batch == 0 {
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
	// The queue is empty after each batch. A backlog, whose length depends on the machine, would make the broker's
	// own memory grow.
	publish := func(n int) {
		for range n / batch {
			var last *producer.Receipt
			for range batch {
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
	}
	began := time.Now()
	publish(first)
	before := inUse()
	publish(n - first)
	after := inUse()
	t.Logf("%d bytes after %d messages, %d after %d, in %v", before, first, after, n, time.Since(began))
	if after > before+limit {
		t.Errorf("memory use grew by %d bytes, want at most %d", after-before, limit)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMemoryUsePerBlockedPublisher(t *testing.T) {
	const n, limit = 10_000, 12 << 10
	broker, _, p := start(t)
	broker.HoldConfirms()
	ctx, cancel := context.WithCancel(t.Context())
	before := inUse()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := p.Publish(ctx, "", "orders", amqp.Publishing{}); err == nil {
				t.Error("Publish = nil while confirms are held")
			}
		})
	}
	waiting := func() bool { q, _ := broker.Queue("orders"); return q.Ready == 1024 && runtime.NumGoroutine() > n }
	if err := broker.Await(t.Context(), waiting); err != nil { // the broker has received a full window of messages
		t.Fatal(err)
	}
	each := (inUse() - before) / n
	t.Logf("%d bytes per publisher", each)
	if each > limit {
		t.Errorf("%d bytes per publisher for %d publishers, want at most %d", each, n, limit)
	}
	cancel()
	wg.Wait()
	broker.ReleaseConfirms()
}

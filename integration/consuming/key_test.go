package consuming

import (
	"context"
	"strconv"
	"testing"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// Promise 16, from one Run to the next: what no handler has begun is put back where it was.
func TestPromise16OrderOfAKeyOutlivesTheEndOfARun(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	const n, each = 3000, 500
	b.Publish(queue, kit.Numbers(n)...)
	next, runs := 0, 0
	for ; next < n; runs++ {
		ctx, cancel := context.WithCancel(b.Ctx())
		handled := 0
		c, err := consumer.New(b.Conn, consumer.Config{
			Queue: queue, Workers: 4, Prefetch: 200, Key: func(*consumer.Delivery) string { return "k" },
		}, func(_ context.Context, d *consumer.Delivery) error { // one at a time, by its key
			if got, err := strconv.Atoi(string(d.Body)); err != nil || got != next {
				t.Errorf("run %d: %s is handled when %d is next", runs, d.Body, next)
			}
			next++
			if handled++; handled >= each || next == n {
				cancel()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d messages in %d runs", next, runs)
}

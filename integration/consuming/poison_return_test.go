package consuming

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// The first loss counts the messages in hand once. Neither taking one message at a time nor returning to the shared connection
// counts anything, loses anything, or changes the order.
func TestS66AHealthySubscriptionReturnsToTheSharedConnectionWithoutATrace(t *testing.T) {
	const messages = 400
	for name, c := range map[string]struct {
		args amqp.Table
		cfg  func(*consumer.Config)
	}{
		"plain":                  {limit(1), func(*consumer.Config) {}},
		"in order":               {limit(1), func(c *consumer.Config) { c.Key = func(*consumer.Delivery) string { return "all" } }},
		"single active consumer": {amqp.Table{"x-delivery-limit": 1, "x-single-active-consumer": true}, func(*consumer.Config) {}},
		"declared": {limit(1), func(c *consumer.Config) {
			queue := c.Queue
			c.Declare = func(_ context.Context, ac *amqp.Connection) (string, error) {
				ch, err := ac.Channel()
				if err != nil {
					return "", err
				}
				defer ch.Close()
				q, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 1})
				return q.Name, err
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			queue := b.Queue(c.args)
			var mu sync.Mutex
			var got []string
			counted := map[string]int64{}
			cfg := consumer.Config{Queue: queue}
			c.cfg(&cfg)
			handle := func(_ context.Context, d *consumer.Delivery) error {
				time.Sleep(3 * time.Millisecond) // so that messages are in hand when the connection is lost
				mu.Lock()
				defer mu.Unlock()
				if n, ok := d.Headers["x-delivery-count"].(int64); ok {
					counted[d.MessageId] = max(counted[d.MessageId], n)
				}
				got = append(got, d.MessageId)
				return nil
			}
			handled := func() map[string]bool {
				mu.Lock()
				defer mu.Unlock()
				all := map[string]bool{}
				for _, id := range got {
					all[id] = true
				}
				return all
			}
			r := b.Start(cfg, handle)
			ids := kit.Numbers(messages)
			for i, id := range ids {
				b.Publish(queue, id)
				if i == 30 { // the poison comes to a queue whose consumer is idle
					idle := poisoned(b, "quorum", limit(1), kit.UUIDProperty)
					b.Begin(consumer.Config{Queue: idle.name}, idle.handle)
				}
			}
			kit.WaitFor(t, func() bool { return len(handled()) == messages })
			kit.WaitFor(t, func() bool { return r.Err() == nil })
			shared, err := b.Conn.ConsumeConnection(b.Ctx())
			if err != nil {
				t.Fatal(err)
			}
			b.Publish(queue, "last")
			kit.WaitFor(t, func() bool { return handled()["last"] })
			r.StopClean()
			b.ExpectLeft(queue, 0)
			if shared.IsClosed() {
				t.Error("the shared connection was lost")
			}
			if len(counted) > 32 {
				t.Errorf("%d messages were counted as failed, want those of one loss at most", len(counted))
			}
			for id, n := range counted {
				if n > 1 {
					t.Errorf("message %s was counted as failed %d times", id, n)
				}
			}
			if twice := len(got) - messages - 1; twice > 32 {
				t.Errorf("%d messages were handled twice, want those of one loss at most", twice)
			}
			// A redelivery goes back; after it the order is the queue's.
			last, back := -1, 0
			for _, id := range got[:len(got)-1] {
				var n int
				if _, err := fmt.Sscan(id, &n); err != nil {
					t.Fatal(err)
				}
				if n < last {
					back++
				}
				last = n
			}
			if back > 1 {
				t.Errorf("the order went back %d times, want once at the loss", back)
			}
		})
	}
}

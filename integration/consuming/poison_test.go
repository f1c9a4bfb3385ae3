package consuming

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// A poisonedQueue is a queue with 30 good messages before and 30 behind one that RabbitMQ cannot encode for AMQP 0-9-1.
type poisonedQueue struct {
	name    string
	handled chan struct{} // holds a token when a message was handled

	mu      sync.Mutex
	missing map[string]bool
}

func poisoned(b *kit.ConsumerBench, kind string, args amqp.Table, property []byte) *poisonedQueue {
	b.T.Helper()
	name := b.Name()
	b.Declare(name, kind, args)
	q := roll(b, name)
	b.Publish(name, good("before")...)
	if property != nil {
		kit.PublishAMQP10(b.T, b.Broker.URL(), name, "poison", property)
	}
	b.Publish(name, good("behind")...)
	return q
}

// roll returns the roll of the 60 good messages of a queue.
func roll(b *kit.ConsumerBench, name string) *poisonedQueue {
	q := &poisonedQueue{name: name, handled: make(chan struct{}, 1), missing: map[string]bool{}}
	for _, id := range append(good("before"), good("behind")...) {
		q.missing[id] = true
	}
	return q
}

func good(prefix string) (ids []string) {
	for i := range 30 {
		ids = append(ids, fmt.Sprint(prefix, "-", i))
	}
	return ids
}

func (q *poisonedQueue) handle(_ context.Context, d *consumer.Delivery) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.missing, d.MessageId)
	select {
	case q.handled <- struct{}{}:
	default:
	}
	return nil
}

func (q *poisonedQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.missing)
}

// awaitAll waits until every good message was handled.
func awaitAll(b *kit.ConsumerBench, q *poisonedQueue) {
	b.T.Helper()
	for ctx := kit.Within(b.T, 2*kit.ConsumerTimeout); q.left() > 0; {
		select {
		case <-q.handled:
		case <-ctx.Done():
			b.T.Fatalf("%d of 60 good messages of queue %s were not handled", q.left(), q.name)
		}
	}
}

// awaitEmpty waits until the poison is gone, too.
func awaitEmpty(b *kit.ConsumerBench, q *poisonedQueue) {
	b.T.Helper()
	err := b.Broker.AwaitQueue(b.Ctx(), q.name, func(c rabbit.Counts) bool { return c.Ready+c.Unacked == 0 })
	if err != nil {
		b.T.Fatal(err)
	}
}

func limit(n int) amqp.Table { return amqp.Table{"x-delivery-limit": n} }

func TestS66AllGoodMessagesAroundAPoisonMessageAreHandled(t *testing.T) {
	for name, c := range map[string]struct {
		args     amqp.Table
		property []byte
	}{
		"uuid, limit 1":       {limit(1), kit.UUIDProperty},
		"uuid, limit 2":       {limit(2), kit.UUIDProperty},
		"char, limit 3":       {limit(3), kit.CharProperty},
		"map, limit 1":        {limit(1), kit.Compound(0xd1, kit.String10("u"), kit.UUIDProperty)},
		"uuid, default limit": {nil, kit.UUIDProperty},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			q := poisoned(b, "quorum", c.args, c.property)
			r := b.Begin(consumer.Config{Queue: q.name, Workers: 3}, q.handle)
			var poison *consumer.PoisonError
			kit.WaitFor(t, func() bool { return errors.As(r.Err(), &poison) || q.left() == 0 })
			awaitAll(b, q)
			awaitEmpty(b, q)
			kit.WaitFor(t, func() bool { return r.Err() == nil })
			r.StopClean()
		})
	}
}

// The good messages in hand at the first loss are counted once; with the default hold and the default prefetch.
func TestS66AHealthyQueueOnTheSameConnLosesNothingToPoisonInAnother(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprint("limit ", n), func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			healthy := poisoned(b, "quorum", limit(n), nil)
			first, second := poisoned(b, "quorum", limit(n), kit.UUIDProperty), poisoned(b, "quorum", limit(n), kit.CharProperty)
			slow := func(ctx context.Context, d *consumer.Delivery) error {
				time.Sleep(10 * time.Millisecond) // so that messages are in hand when the connection is lost
				return healthy.handle(ctx, d)
			}
			h := b.Begin(consumer.Config{Queue: healthy.name}, slow)
			p1 := b.Begin(consumer.Config{Queue: first.name}, first.handle)
			p2 := b.Begin(consumer.Config{Queue: second.name}, second.handle)
			for _, q := range []*poisonedQueue{healthy, first, second} {
				awaitAll(b, q)
				awaitEmpty(b, q)
			}
			for _, r := range []*kit.Running{h, p1, p2} {
				kit.WaitFor(t, func() bool { return r.Err() == nil })
				r.StopClean()
			}
		})
	}
}

// Nothing ends the poison of a classic queue or a stream.
func TestS66PoisonWithoutAnEndCostsAFewConnectionsAndNobodyElse(t *testing.T) {
	for kind, args := range map[string]amqp.Table{"classic": nil, "stream": {"x-stream-offset": "first"}} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			q := poisoned(b, kind, nil, kit.UUIDProperty)
			healthy := b.Queue(limit(1))
			got := make(chan string, 1000)
			h := b.Start(consumer.Config{Queue: healthy}, func(_ context.Context, d *consumer.Delivery) error {
				got <- d.MessageId
				return nil
			})
			r := b.Begin(consumer.Config{Queue: q.name, Prefetch: 10, Arguments: args}, q.handle)
			var poison *consumer.PoisonError
			kit.WaitFor(t, func() bool { return errors.As(r.Err(), &poison) && poison.Attempts >= 5 })
			if left := q.left(); left != 30 {
				t.Errorf("%d of 60 good messages are missing, want the 30 behind the poison", left)
			}
			kit.WaitFor(t, func() bool { return h.Err() == nil })
			ac, err := b.Conn.ConsumeConnection(b.Ctx())
			if err != nil {
				t.Fatal(err)
			}
			seen, attempts := b.Dialled(), poison.Attempts
			for i := range 20 {
				b.Publish(healthy, fmt.Sprint(i))
				kit.Receive(t, got, "message of the healthy queue")
			}
			kit.WaitFor(t, func() bool { return errors.As(r.Err(), &poison) && poison.Attempts >= attempts+5 })
			if n, tries := b.Dialled()-seen, poison.Attempts-attempts; n > tries+2 {
				t.Errorf("%d connections for %d attempts", n, tries)
			}
			if ac.IsClosed() {
				t.Error("the shared connection was lost again")
			}
			h.StopClean()
			_ = r.Stop()
		})
	}
}

// RabbitMQ passes the poison from one consumer to the next, also before it has closed the connection of the first, and counts what
// each has in hand. So the limit is at least the number of consumers.
func TestS66SeveralConsumersOfAPoisonedQueueLoseNoOtherMessage(t *testing.T) {
	for name, c := range map[string]struct{ processes, consumers, limit int }{
		"one process, three consumers": {1, 3, 3},
		"two processes, two each":      {2, 2, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			q := poisoned(b, "quorum", limit(c.limit), kit.UUIDProperty)
			var all []*kit.Running
			for i := range c.processes {
				p := b
				if i > 0 {
					p = kit.NewConsumerBench(t)
				}
				for range c.consumers {
					all = append(all, p.Begin(consumer.Config{Queue: q.name, Prefetch: 20}, q.handle))
				}
			}
			awaitAll(b, q)
			awaitEmpty(b, q)
			for _, r := range all {
				kit.WaitFor(t, func() bool { return r.Err() == nil })
				r.StopClean()
			}
		})
	}
}

// What amqp091-go cannot read costs no connection at all: also with the smallest limits, nothing is counted.
func TestS66HeadersThatCannotBeReadCostNoConnection(t *testing.T) {
	for name, headers := range map[string]amqp.Table{
		"nested": kit.NestedHeaders(), "many": kit.ManyHeaders(), "fill a frame": headersThatFillAFrame(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			dead := b.Queue(amqp.Table{"x-delivery-limit": -1})
			queue := b.Name()
			b.Declare(queue, "quorum", amqp.Table{"x-delivery-limit": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
			q := roll(b, queue)
			b.Publish(queue, good("before")...)
			publishHeaders(b, queue, headers)
			b.Publish(queue, good("behind")...)
			seen := b.Dialled()
			h := q.handle
			if name == "fill a frame" { // it can be read until it is redelivered
				h = func(ctx context.Context, d *consumer.Delivery) error {
					if d.MessageId == "poison" {
						return consumer.Reject(nil)
					}
					return q.handle(ctx, d)
				}
			}
			r := b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: true}, h)
			awaitAll(b, q)
			r.StopClean()
			b.ExpectLeft(queue, 0)
			b.ExpectLeft(dead, 1)
			d, ok, err := consumer.Get(b.Ctx(), b.Conn, dead)
			var unreadable *consumer.UnreadableError
			if !ok || !errors.As(err, &unreadable) || d.MessageId != "poison" {
				t.Fatalf("Get = %v, %v, want an UnreadableError", ok, err)
			}
			if err := d.Reject(false); err != nil {
				t.Error(err)
			}
			b.ExpectLeft(dead, 0)
			if n := b.Dialled() - seen; n != 0 {
				t.Errorf("%d connections were lost", n)
			}
		})
	}
}

// All consumers of a Conn move to separate connections at once. Neither a slow Setup nor an exclusive queue in it is to keep them.
func TestS66ManyConsumersResumeTogetherAfterPoisonInOneQueue(t *testing.T) {
	const n, slow = 12, 300 * time.Millisecond
	exclusive := kit.Unique("exclusive")
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{Setup: func(_ context.Context, ac *amqp.Connection) error {
		time.Sleep(slow)
		ch, err := ac.Channel()
		if err != nil {
			return err
		}
		_, err = ch.QueueDeclare(exclusive, false, false, true, false, nil)
		return errors.Join(err, ch.Close())
	}})
	queues := []string{exclusive}
	for range n {
		queues = append(queues, b.Queue(limit(1)))
	}
	got := make(chan string, 2*n)
	for _, q := range queues {
		b.Start(consumer.Config{Queue: q}, kit.Bodies(got))
	}
	shared, err := b.Conn.ConsumeConnection(b.Ctx())
	if err != nil {
		t.Fatal(err)
	}
	kit.PublishAMQP10(t, b.Broker.URL(), queues[n], "poison", kit.UUIDProperty)
	lost := time.Now()
	kit.WaitFor(t, shared.IsClosed)
	for _, q := range queues[1:n] {
		b.Publish(q, "m")
	}
	kit.WaitFor(t, func() bool { _, err := b.Conn.ConsumeConnection(b.Ctx()); return err == nil })
	b.Publish(exclusive, "m")
	for range n {
		kit.Receive(t, got, "message")
	}
	if took := time.Since(lost); took > slow+time.Second+kit.Soon {
		t.Errorf("the consumers of other queues resumed after %v", took)
	}
}

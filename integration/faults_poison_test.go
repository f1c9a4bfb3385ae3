package integration

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
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// A poisonedQueue is a queue with 30 good messages before and 30 behind one that RabbitMQ cannot encode for AMQP 0-9-1.
type poisonedQueue struct {
	name    string
	handled chan struct{} // holds a token when a message was handled

	mu      sync.Mutex
	missing map[string]bool
}

func (b *consumerBench) poisoned(kind string, args amqp.Table, property []byte) *poisonedQueue {
	b.t.Helper()
	name := b.name()
	b.declare(name, kind, args)
	q := b.roll(name)
	b.publish(name, good("before")...)
	if property != nil {
		publish10(b.t, b.broker.URL(), name, "poison", property)
	}
	b.publish(name, good("behind")...)
	return q
}

// roll returns the roll of the 60 good messages of a queue.
func (b *consumerBench) roll(name string) *poisonedQueue {
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
func (b *consumerBench) awaitAll(q *poisonedQueue) {
	b.t.Helper()
	for ctx := within(b.t, 2*consumerPatience); q.left() > 0; {
		select {
		case <-q.handled:
		case <-ctx.Done():
			b.t.Fatalf("%d of 60 good messages of queue %s were not handled", q.left(), q.name)
		}
	}
}

// awaitEmpty waits until the poison is gone, too.
func (b *consumerBench) awaitEmpty(q *poisonedQueue) {
	b.t.Helper()
	err := b.broker.AwaitQueue(b.ctx(), q.name, func(c rabbit.Counts) bool { return c.Ready+c.Unacked == 0 })
	if err != nil {
		b.t.Fatal(err)
	}
}

func limit(n int) amqp.Table { return amqp.Table{"x-delivery-limit": n} }

func TestS66AllGoodMessagesAroundAPoisonMessageAreHandled(t *testing.T) {
	for name, c := range map[string]struct {
		args     amqp.Table
		property []byte
	}{
		"uuid, limit 1":       {limit(1), uuidProperty},
		"uuid, limit 2":       {limit(2), uuidProperty},
		"char, limit 3":       {limit(3), charProperty},
		"map, limit 1":        {limit(1), compound(0xd1, string10("u"), uuidProperty)},
		"uuid, default limit": {nil, uuidProperty},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newConsumerBench(t)
			q := b.poisoned("quorum", c.args, c.property)
			r := b.begin(consumer.Config{Queue: q.name, Workers: 3}, q.handle)
			var poison *consumer.PoisonError
			waitFor(t, func() bool { return errors.As(r.Err(), &poison) || q.left() == 0 })
			b.awaitAll(q)
			b.awaitEmpty(q)
			waitFor(t, func() bool { return r.Err() == nil })
			r.stopClean()
		})
	}
}

// The good messages in hand at the first loss are counted once; with the default hold and the default prefetch.
func TestS66AHealthyQueueOnTheSameConnLosesNothingToPoisonInAnother(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprint("limit ", n), func(t *testing.T) {
			t.Parallel()
			b := newConsumerBench(t)
			healthy := b.poisoned("quorum", limit(n), nil)
			first, second := b.poisoned("quorum", limit(n), uuidProperty), b.poisoned("quorum", limit(n), charProperty)
			slow := func(ctx context.Context, d *consumer.Delivery) error {
				time.Sleep(10 * time.Millisecond) // so that messages are in hand when the connection is lost
				return healthy.handle(ctx, d)
			}
			h := b.begin(consumer.Config{Queue: healthy.name}, slow)
			p1 := b.begin(consumer.Config{Queue: first.name}, first.handle)
			p2 := b.begin(consumer.Config{Queue: second.name}, second.handle)
			for _, q := range []*poisonedQueue{healthy, first, second} {
				b.awaitAll(q)
				b.awaitEmpty(q)
			}
			for _, r := range []*running{h, p1, p2} {
				waitFor(t, func() bool { return r.Err() == nil })
				r.stopClean()
			}
		})
	}
}

// Nothing ends the poison of a classic queue or a stream.
func TestS66PoisonWithoutAnEndCostsAFewConnectionsAndNobodyElse(t *testing.T) {
	for kind, args := range map[string]amqp.Table{"classic": nil, "stream": {"x-stream-offset": "first"}} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newConsumerBench(t)
			q := b.poisoned(kind, nil, uuidProperty)
			healthy := b.queue(limit(1))
			got := make(chan string, 1000)
			h := b.start(consumer.Config{Queue: healthy}, func(_ context.Context, d *consumer.Delivery) error {
				got <- d.MessageId
				return nil
			})
			r := b.begin(consumer.Config{Queue: q.name, Prefetch: 10, Arguments: args}, q.handle)
			var poison *consumer.PoisonError
			waitFor(t, func() bool { return errors.As(r.Err(), &poison) && poison.Attempts >= 5 })
			if left := q.left(); left != 30 {
				t.Errorf("%d of 60 good messages are missing, want the 30 behind the poison", left)
			}
			waitFor(t, func() bool { return h.Err() == nil })
			ac, err := b.conn.ConsumeConnection(b.ctx())
			if err != nil {
				t.Fatal(err)
			}
			seen, attempts := b.dialled(), poison.Attempts
			for i := range 20 {
				b.publish(healthy, fmt.Sprint(i))
				receive(t, got, "message of the healthy queue")
			}
			waitFor(t, func() bool { return errors.As(r.Err(), &poison) && poison.Attempts >= attempts+5 })
			if n, tries := b.dialled()-seen, poison.Attempts-attempts; n > tries+2 {
				t.Errorf("%d connections for %d attempts", n, tries)
			}
			if ac.IsClosed() {
				t.Error("the shared connection was lost again")
			}
			h.stopClean()
			_ = r.stop()
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
			b := newConsumerBench(t)
			q := b.poisoned("quorum", limit(c.limit), uuidProperty)
			var all []*running
			for i := range c.processes {
				p := b
				if i > 0 {
					p = newConsumerBench(t)
				}
				for range c.consumers {
					all = append(all, p.begin(consumer.Config{Queue: q.name, Prefetch: 20}, q.handle))
				}
			}
			b.awaitAll(q)
			b.awaitEmpty(q)
			for _, r := range all {
				waitFor(t, func() bool { return r.Err() == nil })
				r.stopClean()
			}
		})
	}
}

// What amqp091-go cannot read costs no connection at all: also with the smallest limits, nothing is counted.
func TestS66HeadersThatCannotBeReadCostNoConnection(t *testing.T) {
	for name, headers := range map[string]amqp.Table{
		"nested": nestedHeaders(), "many": manyHeaders(), "fill a frame": headersThatFillAFrame(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newConsumerBench(t)
			dead := b.queue(amqp.Table{"x-delivery-limit": -1})
			queue := b.name()
			b.declare(queue, "quorum", amqp.Table{"x-delivery-limit": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
			q := b.roll(queue)
			b.publish(queue, good("before")...)
			b.publishHeaders(queue, headers)
			b.publish(queue, good("behind")...)
			seen := b.dialled()
			h := q.handle
			if name == "fill a frame" { // it can be read until it is redelivered
				h = func(ctx context.Context, d *consumer.Delivery) error {
					if d.MessageId == "poison" {
						return consumer.Reject(nil)
					}
					return q.handle(ctx, d)
				}
			}
			r := b.start(consumer.Config{Queue: queue, HasDeadLetterExchange: true}, h)
			b.awaitAll(q)
			r.stopClean()
			b.expectLeft(queue, 0)
			b.expectLeft(dead, 1)
			d, ok, err := consumer.Get(b.ctx(), b.conn, dead)
			var unreadable *consumer.UnreadableError
			if !ok || !errors.As(err, &unreadable) || d.MessageId != "poison" {
				t.Fatalf("Get = %v, %v, want an UnreadableError", ok, err)
			}
			if err := d.Reject(false); err != nil {
				t.Error(err)
			}
			b.expectLeft(dead, 0)
			if n := b.dialled() - seen; n != 0 {
				t.Errorf("%d connections were lost", n)
			}
		})
	}
}

// All consumers of a Conn move to separate connections at once. Neither a slow Setup nor an exclusive queue in it is to keep them.
func TestS66ManyConsumersResumeTogetherAfterPoisonInOneQueue(t *testing.T) {
	const n, slow = 12, 300 * time.Millisecond
	exclusive := unique("exclusive")
	b := newConsumerBenchWith(t, amqpkit.Config{Setup: func(_ context.Context, ac *amqp.Connection) error {
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
		queues = append(queues, b.queue(limit(1)))
	}
	got := make(chan string, 2*n)
	for _, q := range queues {
		b.start(consumer.Config{Queue: q}, bodies(got))
	}
	shared, err := b.conn.ConsumeConnection(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	publish10(t, b.broker.URL(), queues[n], "poison", uuidProperty)
	lost := time.Now()
	waitFor(t, shared.IsClosed)
	for _, q := range queues[1:n] {
		b.publish(q, "m")
	}
	waitFor(t, func() bool { _, err := b.conn.ConsumeConnection(b.ctx()); return err == nil })
	b.publish(exclusive, "m")
	for range n {
		receive(t, got, "message")
	}
	if took := time.Since(lost); took > slow+time.Second+soon {
		t.Errorf("the consumers of other queues resumed after %v", took)
	}
}

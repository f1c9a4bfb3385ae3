package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/topology"
)

var quiet = slog.New(slog.DiscardHandler)

// A bench is an in-memory broker with the queue orders, which dead-letters to the queue dead, and a Conn to the
// broker.
type bench struct {
	*amqptest.Broker
	t    *testing.T
	conn *amqpkit.Conn
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := amqptest.Start(t, amqptest.Config{InMemory: true})
	orders := topology.Topology{Queues: []topology.Queue{
		{Name: "orders", DeadLetter: &topology.DeadLetter{RoutingKey: "dead"}}, {Name: "dead"},
	}}
	conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{
		URLs: []string{b.URL()}, Dialer: b.Dial, Setup: orders.Declare, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &bench{b, t, conn}
}

// publish publishes to orders, and returns when the broker has every message.
func (b *bench) publish(bodies ...string) {
	b.t.Helper()
	b.onChannel(func(ch *amqp.Channel) error {
		for _, body := range bodies {
			err := ch.PublishWithContext(b.t.Context(), "", "orders", false, false, amqp.Publishing{Body: []byte(body)})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) onChannel(do func(*amqp.Channel) error) {
	b.t.Helper()
	ac, err := b.conn.PublishConnection(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	ch, err := ac.Channel()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(do(ch), ch.Close()); err != nil { // the answer to the close confirms everything before
		b.t.Fatal(err)
	}
}

// run runs a consumer. end stops it and returns Run's result; it is also called at the end of the test.
func (b *bench) run(cfg consumer.Config, h consumer.Handler) (c *consumer.Consumer, end func() error) {
	b.t.Helper()
	if cfg.Queue == "" && cfg.Declare == nil {
		cfg.Queue = "orders"
	}
	cfg.HasDeadLetterExchange, cfg.Logger = true, quiet
	c, err := consumer.New(b.conn, cfg, h)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	end = sync.OnceValue(func() error { cancel(); return <-ran })
	b.t.Cleanup(func() { _ = end() })
	return c, end
}

func (b *bench) await(condition func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	if err := b.Await(ctx, condition); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) queue(name string) amqptest.Queue {
	q, _ := b.Queue(name)
	return q
}

func (b *bench) expectLeft(ready, dead int) {
	b.t.Helper()
	if q := b.queue("orders"); q.Ready != ready || q.Unacked != 0 || q.Consumers != 0 || b.queue("dead").Ready != dead {
		b.t.Errorf("left %+v and %d dead, want %d ready and %d dead", q, b.queue("dead").Ready, ready, dead)
	}
}

func TestMessageIsUnackedUntilItsHandlerReturns(t *testing.T) {
	b := newBench(t)
	begun, release := make(chan struct{}), make(chan struct{})
	_, end := b.run(consumer.Config{}, func(context.Context, *consumer.Delivery) error {
		close(begun)
		<-release
		return nil
	})
	b.publish("m")
	<-begun
	if n := b.queue("orders").Unacked; n != 1 {
		t.Errorf("%d messages are unacked while the handler runs, want 1", n)
	}
	close(release)
	b.await(func() bool { return b.queue("orders").Unacked == 0 })
	if err := end(); err != nil {
		t.Errorf("Run = %v", err)
	}
	b.expectLeft(0, 0)
}

func TestStaleReportsTheLossOfTheChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		stale := make(chan [2]bool, 1)
		drop := make(chan struct{})
		b.run(consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
			if !d.Redelivered {
				before := d.Stale()
				<-drop
				stale <- [2]bool{before, d.Stale()}
			}
			return nil
		})
		b.publish("m")
		synctest.Wait()
		b.DropConnections()
		synctest.Wait()
		close(drop)
		if got := <-stale; got != [2]bool{false, true} {
			t.Errorf("stale before and after the loss: %v", got)
		}
	})
}

// The delay of a redelivery shows which settlement was sent. x-delivery-count shows whether the broker counted a failure.
func TestHandlerResultSettlesTheMessage(t *testing.T) {
	cause := errors.New("no such customer")
	for name, c := range map[string]struct {
		results []error // of consecutive deliveries; nil is the last
		panics  bool
		again   []time.Duration // the delay of each redelivery
		count   any             // x-delivery-count of the last delivery
		dead    string          // the reason of the dead-lettering
	}{
		"nil: acknowledged":    {results: []error{nil}},
		"Reject: dead":         {results: []error{consumer.Reject(cause)}, dead: "rejected"},
		"wrapped Reject: dead": {results: []error{fmt.Errorf("order 7: %w", consumer.Reject(cause))}, dead: "rejected"},
		"Requeue: after the delay": {
			results: []error{consumer.Requeue(10 * time.Minute), consumer.Requeue(time.Millisecond), nil},
			again:   []time.Duration{10 * time.Minute, time.Millisecond},
		},
		"failure: with growing delays, counted": {
			results: []error{cause, cause, cause, nil},
			again:   []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, count: int64(3),
		},
		"RejectRequeue: at once, counted": {
			results: []error{consumer.RejectRequeue(cause), fmt.Errorf("order 7: %w", consumer.RejectRequeue(consumer.Reject(cause))), nil},
			again:   []time.Duration{0, 0}, count: int64(2),
		},
		"panic: like a failure": {
			results: []error{cause, nil}, panics: true,
			again: []time.Duration{time.Second}, count: int64(1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				var again []time.Duration
				var count any
				last, i := time.Now(), 0
				_, end := b.run(consumer.Config{}, func(_ context.Context, d *consumer.Delivery) error {
					if i > 0 {
						again = append(again, time.Since(last))
					}
					err := c.results[i]
					last, count = time.Now(), d.Headers["x-delivery-count"]
					if i++; c.panics && err != nil {
						panic(err)
					}
					return err
				})
				b.publish("m")
				time.Sleep(20 * time.Minute)
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
				dead := b.Messages("dead")
				if i != len(c.results) || !slices.Equal(again, c.again) || count != c.count {
					t.Errorf("%d deliveries with delays %v, x-delivery-count %v; want %d, %v, %v",
						i, again, count, len(c.results), c.again, c.count)
				}
				if c.dead == "" {
					b.expectLeft(0, 0)
				} else if b.expectLeft(0, 1); dead[0].Headers["x-first-death-reason"] != c.dead {
					t.Errorf("dead: %v", dead[0].Headers)
				}
			})
		})
	}
}

// A held message occupies no worker, so the next message is handled in the meantime.
func TestHeldFailureDoesNotBlockOtherMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		began, order := time.Now(), []string(nil)
		b.run(consumer.Config{Prefetch: 3}, func(_ context.Context, d *consumer.Delivery) error {
			order = append(order, fmt.Sprint(string(d.Body), " ", time.Since(began)))
			if string(d.Body) == "bad" && !d.Redelivered {
				return errors.New("database down")
			}
			return nil
		})
		b.publish("bad", "good", "better")
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []string{"bad 0s", "good 0s", "better 0s", "bad 1s"}; !slices.Equal(order, want) {
			t.Errorf("handled %q, want %q", order, want)
		}
	})
}

func TestWorkersAndPrefetchLimitDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		release := make(chan struct{})
		running := 0
		var mu sync.Mutex
		_, end := b.run(consumer.Config{Workers: 2, Prefetch: 5}, func(context.Context, *consumer.Delivery) error {
			mu.Lock()
			running++
			mu.Unlock()
			<-release
			return nil
		})
		b.publish("1", "2", "3", "4", "5", "6", "7")
		synctest.Wait()
		if q := b.queue("orders"); q.Unacked != 5 || q.Ready != 2 || running != 2 {
			t.Errorf("%+v, %d handlers; want 5 unacked, 2 ready, 2 handlers", q, running)
		}
		close(release)
		synctest.Wait()
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
		b.expectLeft(0, 0)
	})
}

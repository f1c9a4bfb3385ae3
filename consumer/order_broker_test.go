package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
)

// Two consumers use a queue with a single active consumer. The first one is stopped before all messages are handled.
func TestHandoverKeepsTheOrderOfEachKey(t *testing.T) {
	const n, keys = 200, 4
	for name, c := range map[string]struct {
		kind  string
		drain time.Duration
		live  bool
	}{
		"quorum":                  {"quorum", time.Minute, false},
		"quorum, no time":         {"quorum", 15 * time.Millisecond, false},
		"quorum, live publisher":  {"quorum", time.Minute, true},
		"classic":                 {"classic", time.Minute, false},
		"classic, no time":        {"classic", 15 * time.Millisecond, false},
		"classic, live publisher": {"classic", time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.onChannel(func(ch *amqp.Channel) error {
					_, err := ch.QueueDeclare("single", true, false, false, false, amqp.Table{"x-queue-type": c.kind, "x-single-active-consumer": true})
					return err
				})
				publish := func(from, to int) {
					b.onChannel(func(ch *amqp.Channel) error {
						for i := from; i < to; i++ {
							if err := ch.Publish("", "single", false, false, amqp.Publishing{Body: fmt.Appendf(nil, "k%d/%d", i%keys, i/keys)}); err != nil {
								return err
							}
						}
						return nil
					})
				}
				var mu sync.Mutex
				next, running, seen := map[string]int{}, map[string]bool{}, 0
				key := func(d *consumer.Delivery) string { key, _, _ := strings.Cut(string(d.Body), "/"); return key }
				handler := func(_ context.Context, d *consumer.Delivery) error {
					k := key(d)
					mu.Lock()
					if want := fmt.Sprintf("%s/%d", k, next[k]); string(d.Body) != want || running[k] {
						t.Errorf("%s started although %s is next, running %v", d.Body, want, running[k])
					}
					next[k]++
					running[k] = true
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					mu.Lock()
					running[k] = false
					seen++
					mu.Unlock()
					return nil
				}
				cfg := consumer.Config{Queue: "single", Workers: keys, Key: key, DrainTimeout: c.drain}
				first, end := b.run(cfg, handler)
				if err := first.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				b.run(cfg, handler)
				synctest.Wait()
				if c.live {
					go func() {
						for i := range n {
							publish(i, i+1)
							time.Sleep(3 * time.Millisecond)
						}
					}()
				} else {
					publish(0, n)
				}
				time.Sleep(105 * time.Millisecond)
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
				mu.Lock()
				if seen == 0 || seen == n {
					t.Errorf("the first consumer handled %d of %d", seen, n)
				}
				mu.Unlock()
				time.Sleep(time.Minute)
				mu.Lock()
				defer mu.Unlock()
				if seen != n {
					t.Errorf("%d handled, want %d", seen, n)
				}
				if q := b.queue("single"); q.Ready+q.Unacked != 0 {
					t.Errorf("left: %+v", q)
				}
			})
		})
	}
}

func TestRunReturnsNilAfterALossLongAfterTheLastSettlement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		_, end := b.run(consumer.Config{}, func(context.Context, *consumer.Delivery) error { return nil })
		b.publish("1", "2", "3")
		time.Sleep(2 * time.Second)
		b.RefuseLogins(true)
		b.DropConnections()
		synctest.Wait()
		if err := end(); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

// A handler that only waits requeues its message at shutdown. No later message of its key overtakes it.
func TestMessageRequeuedAtShutdownStaysFirst(t *testing.T) {
	for name, prefetch := range map[string]int{"prefetch full": 3, "not full": 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.onChannel(func(ch *amqp.Channel) error {
					_, err := ch.QueueDeclare("single", true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-single-active-consumer": true})
					for i := range 6 {
						err = errors.Join(err, ch.Publish("", "single", false, false, amqp.Publishing{Body: fmt.Append(nil, i)}))
					}
					return err
				})
				var order []string
				cfg := consumer.Config{Queue: "single", Workers: 2, Prefetch: prefetch, Key: func(*consumer.Delivery) string { return "k" }}
				first, end := b.run(cfg, func(ctx context.Context, d *consumer.Delivery) error {
					order = append(order, string(d.Body))
					<-consumer.Draining(ctx)
					return consumer.Requeue(0)
				})
				if err := first.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				b.run(cfg, func(_ context.Context, d *consumer.Delivery) error {
					order = append(order, string(d.Body))
					return nil
				})
				time.Sleep(time.Second)
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if want := []string{"0", "0", "1", "2", "3", "4", "5"}; !slices.Equal(order, want) {
					t.Errorf("handled %q, want %q", order, want)
				}
			})
		})
	}
}

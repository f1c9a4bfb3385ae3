package connection

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

const (
	deadline = time.Second            // of each call on a stalled link
	slack    = 250 * time.Millisecond // after it
)

// A timing is how long a call took, and what it returned.
type timing struct {
	call string
	took time.Duration
	err  error
}

// timings collects those of calls that run at once.
type timings struct {
	mu  sync.Mutex
	all []timing
}

// call calls f with a ctx that ends after the deadline.
func (c *timings) call(ctx context.Context, name string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	start := time.Now()
	err := f(ctx)
	took := time.Since(start)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, timing{name, took, err})
	return err
}

// check fails the test if a call took too long, and tells the longest of each.
func (c *timings) check(t *testing.T) {
	t.Helper()
	longest := map[string]time.Duration{}
	for _, m := range c.all {
		longest[m.call] = max(longest[m.call], m.took.Round(time.Millisecond))
		if m.took > deadline+slack {
			t.Errorf("%s returned after %v: %v", m.call, m.took, m.err)
		}
	}
	t.Logf("%s, ctx %v: longest %v", t.Name(), deadline, longest)
}

// What amqp091-go alone does here is a deadlock: the writer holds the locks that closing waits for.
func TestS11EveryCallReturnsInTimeWhenThePeerDoesNotRead(t *testing.T) {
	b := kit.NeedsControl(t)
	proxy := amqptest.StartProxy(t, b.URL())
	for name, fault := range map[string]struct{ begin, end func(context.Context) error }{
		"held in the network": {
			func(context.Context) error { proxy.Pause(amqptest.FromClient); return nil },
			func(context.Context) error { proxy.Clear(); return nil },
		},
		"memory alarm": {
			func(ctx context.Context) error { return b.MemoryAlarm(ctx, true) },
			func(ctx context.Context) error { return b.MemoryAlarm(ctx, false) },
		},
		"SIGSTOP": {b.Pause, b.Unpause},
	} {
		t.Run(name, func(t *testing.T) {
			queue := kit.QuorumQueue(t, nil)
			before := ours()
			ctx := kit.Within(t, time.Minute)
			conn, stuck := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}}), kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
			p, sp := kit.NewProducer(t, conn, producer.Config{}), kit.NewProducer(t, stuck, producer.Config{})
			for _, p := range []*producer.Producer{p, sp} {
				if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := conn.ConsumeConnection(ctx); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := fault.end(context.Background()); err != nil {
					t.Error(err)
				}
			})
			if err := fault.begin(ctx); err != nil {
				t.Fatal(err)
			}

			var calls timings
			var receipts []*producer.Receipt
			for range tooMany {
				r, err := sp.PublishAsync(ctx, "", queue, amqp.Publishing{Body: make([]byte, large)})
				if err != nil {
					t.Fatal(err)
				}
				receipts = append(receipts, r)
			}
			callAtOnce(ctx, t, &calls, conn, p, queue)
			_ = calls.call(ctx, "Producer.Close", p.Close) // it counts what is left
			for name, end := range map[string]func(context.Context) error{"Conn.Close": conn.Close, "Conn.Close beneath a stuck Producer": stuck.Close} {
				if err := calls.call(ctx, name, end); err != nil {
					t.Errorf("%s = %v", name, err)
				}
			}
			_ = calls.call(ctx, "Producer.Close after Conn.Close", sp.Close)
			for _, r := range receipts {
				if err := r.Wait(ctx); !errors.Is(err, producer.ErrUnconfirmed) && !errors.Is(err, producer.ErrNotPublished) {
					t.Errorf("Wait = %v", err)
				}
			}
			kit.WaitFor(t, func() bool { return ours() <= before }) // while nobody reads
			calls.check(t)
		})
	}
}

// So many messages of that size are more than the buffers of TCP hold.
const tooMany, large = 60, 200_000

// callAtOnce publishes and makes every other call of a Conn meanwhile.
func callAtOnce(ctx context.Context, t *testing.T, calls *timings, conn *amqpkit.Conn, p *producer.Producer, queue string) {
	t.Helper()
	var wg sync.WaitGroup
	body := make([]byte, large)
	for range tooMany {
		wg.Go(func() {
			for range 2 {
				err := calls.call(ctx, "Publish", func(ctx context.Context) error {
					return p.Publish(ctx, "", queue, amqp.Publishing{Body: body})
				})
				if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, producer.ErrUnconfirmed) && !errors.Is(err, producer.ErrNotPublished) {
					t.Errorf("Publish = %v", err)
				}
			}
		})
	}
	objects := topology.Topology{Queues: []topology.Queue{{Name: queue}}}
	for name, f := range map[string]func(context.Context) error{
		"Publishing": func(ctx context.Context) error { _, err := conn.PublishConnection(ctx); return err },
		"Consuming":  func(ctx context.Context) error { _, err := conn.ConsumeConnection(ctx); return err },
		"Channel":    func(ctx context.Context) error { _, err := conn.Channel(ctx); return err },
		"Get":        func(ctx context.Context) error { _, _, err := consumer.Get(ctx, conn, queue); return err },
		"Verify": func(ctx context.Context) error {
			ac, err := conn.ConsumeConnection(ctx)
			if err != nil {
				return err
			}
			return objects.Verify(ctx, ac)
		},
	} {
		wg.Go(func() {
			if err := calls.call(ctx, name, f); err != nil && strings.HasSuffix(t.Name(), "memory_alarm") {
				t.Errorf("%s = %v, but an alarm is no concern of consumers", name, err)
			}
		})
	}
	wg.Wait()
}

// amqp091-go answers concurrent calls on one channel with each other's replies, and the broker closes it with 503.
func TestS49ConcurrentCallsGetTheirOwnAnswers(t *testing.T) {
	const workers, rounds = 12, 20
	queue, prefix := kit.QuorumQueue(t, nil), kit.Unique("calls")
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	proxy.Observe(func(e amqptest.Event) {
		if e.From == amqptest.FromBroker && (e.Kind == amqptest.ChannelClosed || e.Kind == amqptest.ConnectionClosed) {
			t.Errorf("the broker closed channel %d: %d %s", e.Channel, e.Code, e.Text)
		}
	})
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, time.Minute)
	round := func(name string) error {
		objects := topology.Topology{Exchanges: []topology.Exchange{{Name: name, Type: topology.Direct}}}
		for key := range 8 { // which takes two channels
			objects.Bindings = append(objects.Bindings, topology.Binding{Source: name, Queue: queue, Key: fmt.Sprint(key)})
		}
		ac, err := conn.ConsumeConnection(ctx)
		if err != nil {
			return err
		}
		if err := objects.Declare(ctx, ac); err != nil {
			return err
		}
		if err := p.Publish(ctx, name, "0", amqp.Publishing{}); err != nil { // which looks for the exchange first
			return err
		}
		d, ok, err := consumer.Get(ctx, conn, queue)
		if err != nil || !ok {
			return fmt.Errorf("get: %v, %w", ok, err)
		}
		if err := d.Ack(false); err != nil {
			return err
		}
		ch, err := conn.Channel(ctx)
		if err != nil {
			return err
		}
		if err := ch.ExchangeDelete(name, false, false); err != nil {
			return err
		}
		return ch.Close()
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for n := range rounds {
				if err := round(fmt.Sprintf("%s-%d-%d", prefix, i, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := kit.Ready(t, queue); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

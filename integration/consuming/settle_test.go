package consuming

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// The broker becomes unreachable two seconds after the last settlement.
func TestS89AcknowledgedSettlementsStopBeingInDoubt(t *testing.T) {
	for name, s := range map[string]struct {
		n         int // messages; zero means 10
		kind      string
		result    error
		gap       time.Duration // between the messages
		discard   bool          // no settlement arrives
		unsettled int
	}{
		"after quick traffic":   {kind: "quorum", n: 500},
		"acknowledged":          {kind: "quorum"},
		"acknowledged, classic": {kind: "classic"},
		"rejected":              {kind: "quorum", result: consumer.Reject(nil)},
		"one by one":            {kind: "quorum", gap: 150 * time.Millisecond},
		"none arrived":          {kind: "quorum", discard: true, unsettled: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := cmp.Or(s.n, 10)
			proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
			b := kit.NewConsumerBenchThrough(t, proxy.URL())
			queue := b.Name()
			b.Declare(queue, s.kind, nil)
			handled := make(chan struct{}, n)
			r := b.Start(consumer.Config{Queue: queue, Workers: 2, HasDeadLetterExchange: true}, func(context.Context, *consumer.Delivery) error {
				handled <- struct{}{}
				return s.result
			})
			if s.discard {
				proxy.Blackhole(amqptest.FromClient)
			}
			for _, body := range kit.Numbers(n) {
				if s.gap == 0 {
					b.Publish(queue, kit.Numbers(n)...)
					break
				}
				b.Publish(queue, body)
				kit.Work(s.gap)
			}
			for range n {
				kit.Receive(t, handled, "delivery")
			}
			if !s.discard {
				b.ExpectLeft(queue, 0)
			}
			kit.Work(2 * time.Second)
			proxy.RefuseConnections(true)
			proxy.Cut()
			kit.WaitFor(t, func() bool { return r.Err() != nil })
			err := r.Stop()
			var d *consumer.DrainError
			if got := errors.As(err, &d); got != (s.unsettled > 0) || got && d.Unsettled != s.unsettled {
				t.Errorf("Run = %v, want %d settlements in doubt", err, s.unsettled)
			}
			b.ExpectLeft(queue, s.unsettled)
		})
	}
}

// A user who may only read: the question that proves settlements costs it no channel.
func TestS89AReadOnlyUserIsAskedNothingThatItMayNot(t *testing.T) {
	b := kit.NeedsControl(t)
	user := kit.Unique("reader")
	for _, args := range [][]string{{"add_user", user, "secret"}, {"set_permissions", user, "^$", "^$", ".*"}} {
		if out, err := b.Ctl(t.Context(), args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Cleanup(func() { _, _ = b.Ctl(context.Background(), "delete_user", user) })
	proxy := amqptest.StartProxy(t, strings.Replace(b.URL(), "guest:guest", user+":secret", 1))
	wire := kit.Observe(proxy)
	bench := kit.NewConsumerBenchThrough(t, strings.Replace(proxy.URL(), "guest:guest", user+":secret", 1))
	var consumers []*kit.Running
	for _, kind := range []string{"quorum", "classic", "stream"} {
		queue := bench.Name()
		bench.Declare(queue, kind, nil)
		cfg := consumer.Config{Queue: queue}
		if kind == "stream" {
			cfg.Arguments = amqp.Table{"x-stream-offset": "first"}
		}
		handled := make(chan struct{}, 1)
		r := bench.Start(cfg, func(context.Context, *consumer.Delivery) error { handled <- struct{}{}; return nil })
		bench.Publish(queue, "m")
		kit.Receive(t, handled, "delivery")
		consumers = append(consumers, r)
	}
	kit.Work(1500 * time.Millisecond) // the question, and the time after it
	for i, r := range consumers {
		if err := r.Err(); err != nil {
			t.Errorf("consumer %d: Err = %v", i, err)
		}
	}
	proxy.RefuseConnections(true)
	proxy.Cut()
	for i, r := range consumers {
		kit.WaitFor(t, func() bool { return r.Err() != nil })
		if err := r.Stop(); err != nil {
			t.Errorf("consumer %d: Run = %v", i, err)
		}
	}
	wire.ExpectTrueSettlements(t)
}

// Without a bound one message came 2,000 times a second, and the log was silent.
func TestS86AMessageThatIsGivenBackAtOnceDoesNotCircle(t *testing.T) {
	reason := errors.New("not my shard")
	for name, s := range map[string]struct {
		kind   string
		args   func(queue string) amqp.Table
		result error
		waits  bool // first in another queue
	}{
		"requeued, quorum": {kind: "quorum", result: consumer.Requeue(0, reason), args: func(string) amqp.Table {
			return amqp.Table{"x-delivery-limit": -1} // before 4.3 every return counts
		}},
		"requeued, classic": {kind: "classic", result: consumer.Requeue(-time.Second, reason)},
		"failed, classic":   {kind: "classic", result: consumer.RejectRequeue(reason)},
		"rejected into its queue": {kind: "quorum", result: consumer.Reject(reason), args: func(queue string) amqp.Table {
			return amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
		}},
		"rejected into its queue, after a wait": {kind: "classic", waits: true, result: consumer.Reject(reason), args: func(queue string) amqp.Table {
			return amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			queue := b.Name()
			var args amqp.Table
			if s.args != nil {
				args = s.args(queue)
			}
			b.Declare(queue, s.kind, args)
			to := queue
			if s.waits {
				to = b.Queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-message-ttl": 50})
			}
			b.Publish(to, "m")
			var log kit.Logbook
			var delivered atomic.Int64
			r := b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: true, Logger: log.Logger()}, func(context.Context, *consumer.Delivery) error {
				delivered.Add(1)
				return s.result
			})
			kit.Work(2 * time.Second)
			r.StopClean()
			if n := delivered.Load(); n < 10 || n > 40 {
				t.Errorf("%d deliveries in 2 s, want 10 to 40", n)
			}
			if log.Count("as soon as they are delivered") != 1 || log.Count(reason.Error()) == 0 {
				t.Errorf("the log does not warn once and name the reason\n%s", &log)
			}
			b.ExpectLeft(queue, 1)
		})
	}
}

// What cannot be read is rejected without the handler, and its x-death cannot be read either.
func TestS86AnUnreadableMessageThatComesStraightBackDoesNotCircle(t *testing.T) {
	t.Parallel()
	b := kit.NewConsumerBench(t)
	queue := b.Name()
	b.Declare(queue, "quorum", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue})
	publishHeaders(b, queue, kit.NestedHeaders())
	var log kit.Logbook
	r := b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: true, Logger: log.Logger()}, func(context.Context, *consumer.Delivery) error { return nil })
	kit.Work(2 * time.Second)
	r.StopClean()
	if n := log.Count("unreadable message rejected"); n < 10 || n > 40 {
		t.Errorf("%d deliveries in 2 s, want 10 to 40", n)
	}
	kit.WaitFor(t, func() bool { return kit.Ready(t, queue) == 1 }) // it may be on its way from the queue to the queue
}

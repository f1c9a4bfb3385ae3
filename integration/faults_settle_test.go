package integration

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
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
			proxy := amqptest.StartProxy(t, broker(t).URL())
			b := newConsumerBenchThrough(t, proxy.URL())
			queue := b.name()
			b.declare(queue, s.kind, nil)
			handled := make(chan struct{}, n)
			r := b.start(consumer.Config{Queue: queue, Workers: 2, HasDeadLetterExchange: true}, func(context.Context, *consumer.Delivery) error {
				handled <- struct{}{}
				return s.result
			})
			if s.discard {
				proxy.Blackhole(amqptest.FromClient)
			}
			for _, body := range numbers(n) {
				if s.gap == 0 {
					b.publish(queue, numbers(n)...)
					break
				}
				b.publish(queue, body)
				work(s.gap)
			}
			for range n {
				receive(t, handled, "delivery")
			}
			if !s.discard {
				b.expectLeft(queue, 0)
			}
			work(2 * time.Second)
			proxy.RefuseConnections(true)
			proxy.Cut()
			waitFor(t, func() bool { return r.Err() != nil })
			err := r.stop()
			var d *consumer.DrainError
			if got := errors.As(err, &d); got != (s.unsettled > 0) || got && d.Unsettled != s.unsettled {
				t.Errorf("Run = %v, want %d settlements in doubt", err, s.unsettled)
			}
			b.expectLeft(queue, s.unsettled)
		})
	}
}

// A user who may only read: the question that proves settlements costs it no channel.
func TestS89AReadOnlyUserIsAskedNothingThatItMayNot(t *testing.T) {
	b := needsControl(t)
	user := unique("reader")
	for _, args := range [][]string{{"add_user", user, "secret"}, {"set_permissions", user, "^$", "^$", ".*"}} {
		if out, err := b.Ctl(t.Context(), args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Cleanup(func() { _, _ = b.Ctl(context.Background(), "delete_user", user) })
	proxy := amqptest.StartProxy(t, strings.Replace(b.URL(), "guest:guest", user+":secret", 1))
	wire := observe(proxy)
	bench := newConsumerBenchThrough(t, strings.Replace(proxy.URL(), "guest:guest", user+":secret", 1))
	var consumers []*running
	for _, kind := range []string{"quorum", "classic", "stream"} {
		queue := bench.name()
		bench.declare(queue, kind, nil)
		cfg := consumer.Config{Queue: queue}
		if kind == "stream" {
			cfg.Arguments = amqp.Table{"x-stream-offset": "first"}
		}
		handled := make(chan struct{}, 1)
		r := bench.start(cfg, func(context.Context, *consumer.Delivery) error { handled <- struct{}{}; return nil })
		bench.publish(queue, "m")
		receive(t, handled, "delivery")
		consumers = append(consumers, r)
	}
	work(1500 * time.Millisecond) // the question, and the time after it
	for i, r := range consumers {
		if err := r.Err(); err != nil {
			t.Errorf("consumer %d: Err = %v", i, err)
		}
	}
	proxy.RefuseConnections(true)
	proxy.Cut()
	for i, r := range consumers {
		waitFor(t, func() bool { return r.Err() != nil })
		if err := r.stop(); err != nil {
			t.Errorf("consumer %d: Run = %v", i, err)
		}
	}
	wire.expectTrueSettlements(t)
}

// A node may have read a settlement that the queue's leader never gets: it stays in doubt.
func (c *clusterBench) keepsDoubt(t *testing.T) {
	const queue, n = "doubt", 3
	declareQuorum(t, c.Nodes()[0], queue)
	leader, err := c.Leader(c.ctx, queue)
	must(t, err)
	for range n {
		must(t, publishWithin(dial(t, c.Nodes()[leader], "doubt"), queue, "m", 5*time.Second))
	}
	proxy := amqptest.StartProxy(t, c.URLs()[(leader+1)%3])
	conn := connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
	begun, release := make(chan struct{}, n), make(chan struct{})
	cons, err := consumer.New(conn, consumer.Config{Queue: queue, Workers: n, Prefetch: n, Logger: logger(t)}, func(context.Context, *consumer.Delivery) error {
		begun <- struct{}{}
		<-release
		return nil
	})
	must(t, err)
	ctx, end := context.WithCancel(c.ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- cons.Run(ctx) }()
	for range n {
		receive(t, begun, "delivery")
	}
	for _, i := range []int{leader, (leader + 2) % 3} {
		must(t, c.Nodes()[i].Pause(c.ctx))
	}
	close(release)
	work(2 * time.Second)
	proxy.RefuseConnections(true)
	proxy.Cut()
	waitFor(t, func() bool { return cons.Err() != nil })
	end()
	var d *consumer.DrainError
	if err := receive(t, ended, "Run's return"); !errors.As(err, &d) || d.Unsettled != n {
		t.Errorf("Run = %v, want %d settlements in doubt", err, n)
	}
	for _, i := range []int{leader, (leader + 2) % 3} {
		must(t, c.Nodes()[i].Unpause(c.ctx))
	}
	c.rejoins(t, leader)
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
			b := newConsumerBench(t)
			queue := b.name()
			var args amqp.Table
			if s.args != nil {
				args = s.args(queue)
			}
			b.declare(queue, s.kind, args)
			to := queue
			if s.waits {
				to = b.queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-message-ttl": 50})
			}
			b.publish(to, "m")
			var log logbook
			var delivered atomic.Int64
			r := b.start(consumer.Config{Queue: queue, HasDeadLetterExchange: true, Logger: log.logger()}, func(context.Context, *consumer.Delivery) error {
				delivered.Add(1)
				return s.result
			})
			work(2 * time.Second)
			r.stopClean()
			if n := delivered.Load(); n < 10 || n > 40 {
				t.Errorf("%d deliveries in 2 s, want 10 to 40", n)
			}
			if log.count("as soon as they are delivered") != 1 || log.count(reason.Error()) == 0 {
				t.Errorf("the log does not warn once and name the reason\n%s", &log)
			}
			b.expectLeft(queue, 1)
		})
	}
}

// What cannot be read is rejected without the handler, and its x-death cannot be read either.
func TestS86AnUnreadableMessageThatComesStraightBackDoesNotCircle(t *testing.T) {
	t.Parallel()
	b := newConsumerBench(t)
	queue := b.name()
	b.declare(queue, "quorum", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue})
	b.publishHeaders(queue, nestedHeaders())
	var log logbook
	r := b.start(consumer.Config{Queue: queue, HasDeadLetterExchange: true, Logger: log.logger()}, func(context.Context, *consumer.Delivery) error { return nil })
	work(2 * time.Second)
	r.stopClean()
	if n := log.count("unreadable message rejected"); n < 10 || n > 40 {
		t.Errorf("%d deliveries in 2 s, want 10 to 40", n)
	}
	b.expectLeft(queue, 1)
}

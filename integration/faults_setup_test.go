package integration

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// resumeTime is promise 14's second, another one if Setup ran in the midst of the deletions, and half a second for
// the machine.
const resumeTime = 2500 * time.Millisecond

// counted counts the runs of a Setup.
func counted(runs *atomic.Int64, setup func(context.Context, *amqp.Connection) error) func(context.Context, *amqp.Connection) error {
	return func(ctx context.Context, ac *amqp.Connection) error {
		runs.Add(1)
		return setup(ctx, ac)
	}
}

// bodies returns a handler that sends the body of each message to got.
func bodies(got chan string) consumer.Handler {
	return func(_ context.Context, d *consumer.Delivery) error { got <- string(d.Body); return nil }
}

func TestS69ADeletedQueueIsDeclaredAgainOnTheLivingSession(t *testing.T) {
	t.Parallel()
	exchange, queue := unique("s69"), unique("s69")
	quorum := topology.Queue{Name: queue}
	for name, c := range map[string]struct {
		queue topology.Queue
		lose  func(t *testing.T, b *consumerBench, ac *amqp.Connection)
	}{
		"deleted": {quorum, func(t *testing.T, b *consumerBench, _ *amqp.Connection) {
			t.Helper()
			if _, err := b.plain.QueueDelete(queue, false, false, false); err != nil {
				t.Fatal(err)
			}
		}},
		// Not classic ones: RabbitMQ was seen to send no basic.cancel for some.
		"deleted with its exchange": {quorum, func(t *testing.T, b *consumerBench, _ *amqp.Connection) {
			t.Helper()
			err := b.plain.ExchangeDelete(exchange, false, false)
			_, e := b.plain.QueueDelete(queue, false, false, false)
			if err = errors.Join(err, e); err != nil {
				t.Fatal(err)
			}
		}},
		"redeclared without its binding": {quorum, func(t *testing.T, b *consumerBench, _ *amqp.Connection) {
			t.Helper()
			_, err := b.plain.QueueDelete(queue, false, false, false)
			if err != nil {
				t.Fatal(err)
			}
			b.declare(queue, "quorum", nil)
		}},
		"auto-delete, after a lost connection": {topology.Queue{Name: queue, Type: topology.Classic, AutoDelete: true}, func(t *testing.T, b *consumerBench, ac *amqp.Connection) {
			t.Helper()
			b.cutOne(ac)
		}},
		"expired, after a lost connection": {topology.Queue{Name: queue, Type: topology.Classic, Expires: 50 * time.Millisecond}, func(t *testing.T, b *consumerBench, ac *amqp.Connection) {
			t.Helper()
			b.cutOne(ac)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			topo := topology.Topology{
				Exchanges: []topology.Exchange{{Name: exchange, Type: topology.Fanout}},
				Queues:    []topology.Queue{c.queue},
				Bindings:  []topology.Binding{{Source: exchange, Queue: queue}},
			}
			var runs atomic.Int64
			b := newConsumerBenchWith(t, amqpkit.Config{Setup: counted(&runs, topo.Declare), Logger: logger(t)})
			t.Cleanup(func() { _ = b.plain.ExchangeDelete(exchange, false, false) })
			t.Cleanup(func() { _, _ = b.plain.QueueDelete(queue, false, false, false) })
			got := make(chan string, 10)
			r := b.start(consumer.Config{Queue: queue, Logger: logger(t)}, func(context.Context, *consumer.Delivery) error {
				select {
				case got <- "":
				default: // more than the test needs
				}
				return nil
			})
			ac, err := b.conn.ConsumeConnection(b.ctx())
			if err != nil {
				t.Fatal(err)
			}
			b.publish(queue, "first")
			receive(t, got, "message")
			c.lose(t, b, ac)
			lost := time.Now()
			waitFor(t, func() bool {
				if b.plain.IsClosed() { // the exchange was not there
					b.plain = rawChannel(t)
				}
				_ = b.plain.PublishWithContext(b.ctx(), exchange, "", false, false, amqp.Publishing{Body: []byte("again")})
				return len(got) > 0
			})
			if took := time.Since(lost); took > resumeTime {
				t.Errorf("consuming resumed after %v", took)
			}
			if err := r.Ready(b.ctx()); err != nil {
				t.Error(err)
			}
			if err := b.conn.Ready(b.ctx()); err != nil || b.conn.Err() != nil {
				t.Errorf("consuming again, Ready = %v and Err = %v", err, b.conn.Err())
			}
			r.stopClean()
		})
	}
}

func TestS69AQueueThatIsMissingAtTheFirstSubscribeIsDeclared(t *testing.T) {
	t.Parallel()
	queue := unique("s69")
	topo := topology.Topology{Queues: []topology.Queue{{Name: queue}}}
	b := newConsumerBenchWith(t, amqpkit.Config{Setup: topo.Declare})
	t.Cleanup(func() { _, _ = b.plain.QueueDelete(queue, false, false, false) })
	if _, err := b.plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	began := time.Now()
	r := b.start(consumer.Config{Queue: queue}, bodies(got))
	if took := time.Since(began); took > resumeTime {
		t.Errorf("subscribed after %v", took)
	}
	if err := b.conn.Ready(b.ctx()); err != nil {
		t.Error(err)
	}
	b.publish(queue, "m")
	receive(t, got, "message")
	r.stopClean()
}

func TestS69TheConnIsNotReadyWhileAQueueIsMissing(t *testing.T) {
	t.Parallel()
	queue, neighbour := unique("s69"), unique("s69")
	var runs atomic.Int64
	var log logbook
	conflict := errors.New("a conflict")
	var failing atomic.Bool
	topo := topology.Topology{Queues: []topology.Queue{{Name: queue}, {Name: neighbour}}}
	b := newConsumerBenchWith(t, amqpkit.Config{
		Logger: log.logger(),
		Setup: counted(&runs, func(ctx context.Context, ac *amqp.Connection) error {
			if failing.Load() {
				return conflict
			}
			return topo.Declare(ctx, ac)
		}),
	})
	t.Cleanup(func() { _, _ = b.plain.QueueDelete(queue, false, false, false) })
	t.Cleanup(func() { _, _ = b.plain.QueueDelete(neighbour, false, false, false) })
	got, others := make(chan string, 10), make(chan string, 10)
	r := b.start(consumer.Config{Queue: queue}, bodies(got))
	n := b.start(consumer.Config{Queue: neighbour}, bodies(others))
	p := newProducer(t, b.conn, producer.Config{})
	before, err := b.conn.ConsumeConnection(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(b.ctx(), "", neighbour, amqp.Publishing{Body: []byte("before")}); err != nil {
		t.Fatal(err)
	}
	receive(t, others, "message")

	failing.Store(true)
	first := runs.Load()
	if _, err := b.plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	if !stopsBeingReady(b.ctx(), b.conn) {
		t.Fatal("the Conn stayed ready")
	}
	waitFor(t, func() bool { return errors.Is(b.conn.Err(), conflict) })
	var missing *amqpkit.MissingError
	if err := b.conn.Err(); !errors.As(err, &missing) || !slices.Equal(missing.Queues, []string{queue}) {
		t.Errorf("Err = %v, want a *MissingError for %s", err, queue)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := b.conn.Ready(ended); !errors.As(err, &missing) || !strings.Contains(err.Error(), queue) {
		t.Errorf("Ready = %v, want it to name %s", err, queue)
	}
	// Publishing and the neighbour continue on the same sessions.
	if err := p.Publish(b.ctx(), "", neighbour, amqp.Publishing{Body: []byte("meanwhile")}); err != nil {
		t.Error(err)
	}
	if m := receive(t, others, "message"); m != "meanwhile" {
		t.Errorf("the neighbour got %q", m)
	}
	since := time.Now()
	waitFor(t, func() bool { return runs.Load() >= first+3 })
	if took := time.Since(since); took < 900*time.Millisecond {
		t.Errorf("Setup ran %d times in %v", runs.Load()-first, took)
	}
	failing.Store(false)
	possible := time.Now()
	if err := b.conn.Ready(b.ctx()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(possible); took > resumeTime {
		t.Errorf("ready after %v", took)
	}
	b.publish(queue, "again")
	if m := receive(t, got, "message"); m != "again" {
		t.Errorf("got %q", m)
	}
	if after, err := b.conn.ConsumeConnection(b.ctx()); err != nil || after != before {
		t.Errorf("the session changed (%v)", err)
	}
	if log.count(conflict.Error()) == 0 || log.count("running Setup again") == 0 {
		t.Errorf("the log does not report the runs:\n%s", &log)
	}
	r.stopClean()
	n.stopClean()
}

func TestS69ManyConsumersShareARunOfSetup(t *testing.T) {
	t.Parallel()
	var topo topology.Topology
	for range 8 {
		topo.Queues = append(topo.Queues, topology.Queue{Name: unique("s69")})
	}
	var runs atomic.Int64
	b := newConsumerBenchWith(t, amqpkit.Config{Setup: counted(&runs, topo.Declare)})
	rs := make([]*running, len(topo.Queues))
	got := make([]chan string, len(topo.Queues))
	for i, q := range topo.Queues {
		t.Cleanup(func() { _, _ = b.plain.QueueDelete(q.Name, false, false, false) })
		got[i] = make(chan string, 100)
		rs[i] = b.start(consumer.Config{Queue: q.Name}, bodies(got[i]))
	}
	plain, err := b.conn.PublishConnection(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	before := runs.Load()
	deleting := time.Now()
	for _, q := range topo.Queues {
		if _, err := b.plain.QueueDelete(q.Name, false, false, false); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool {
		return runs.Load() > before && b.conn.Err() == nil && topo.Verify(b.ctx(), plain) == nil
	})
	for i, q := range topo.Queues {
		b.publish(q.Name, "again")
		receive(t, got[i], "message")
	}
	if n, most := runs.Load()-before, 1+int64(time.Since(deleting)/time.Second); n > most {
		t.Errorf("Setup ran %d times, want %d at most", n, most)
	}
	for _, r := range rs {
		r.stopClean()
	}
}

func TestS69SetupOnceLeavesADeletedQueueDeleted(t *testing.T) {
	t.Parallel()
	queue := unique("s69")
	var runs atomic.Int64
	topo := topology.Topology{Queues: []topology.Queue{{Name: queue}}}
	b := newConsumerBenchWith(t, amqpkit.Config{SetupOnce: true, Setup: counted(&runs, topo.Declare)})
	t.Cleanup(func() { _, _ = b.plain.QueueDelete(queue, false, false, false) })
	var attempts atomic.Int64
	got := make(chan string, 1)
	r := b.start(consumer.Config{Queue: queue, Declare: func(context.Context, *amqp.Connection) (string, error) {
		attempts.Add(1)
		return "", nil
	}}, bodies(got))
	before := runs.Load()
	if _, err := b.plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return attempts.Load() >= 5 })
	var missing *amqpkit.MissingError
	if err := b.conn.Err(); !errors.As(err, &missing) || missing.Again || runs.Load() != before {
		t.Errorf("Err = %v after %d runs of Setup", err, runs.Load()-before)
	}
	b.declare(queue, "quorum", nil)
	if err := b.conn.Ready(b.ctx()); err != nil {
		t.Error(err)
	}
	// A consumer that ends no longer keeps the Conn from being ready.
	if _, err := b.plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	if !stopsBeingReady(b.ctx(), b.conn) {
		t.Fatal("the Conn stayed ready")
	}
	r.stopClean()
	if err := b.conn.Err(); err != nil {
		t.Errorf("without a consumer Err = %v", err)
	}
}

func TestS69AConsumersOwnDeclareFindsItsExchangeAgain(t *testing.T) {
	t.Parallel()
	exchange, queue := unique("s69"), unique("s69")
	topo := topology.Topology{Exchanges: []topology.Exchange{{Name: exchange, Type: topology.Fanout}}}
	b := newConsumerBenchWith(t, amqpkit.Config{Setup: topo.Declare, Logger: logger(t)})
	t.Cleanup(func() { _ = b.plain.ExchangeDelete(exchange, false, false) })
	t.Cleanup(func() { _, _ = b.plain.QueueDelete(queue, false, false, false) })
	got := make(chan string, 10)
	names := make(chan string, 100)
	r := b.start(consumer.Config{Logger: logger(t), Declare: func(ctx context.Context, ac *amqp.Connection) (string, error) {
		name, err := topology.Queue{Name: queue}.Declare(ctx, ac)
		if err == nil {
			bound := topology.Topology{Bindings: []topology.Binding{{Source: exchange, Queue: name}}}
			err = bound.Declare(ctx, ac)
		}
		if err == nil {
			names <- name
		}
		return name, err
	}}, bodies(got))
	receive(t, names, "queue name")
	b.publish(queue, "first")
	receive(t, got, "message")
	if err := b.plain.ExchangeDelete(exchange, false, false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	lost := time.Now()
	receive(t, names, "queue name")
	if err := b.conn.Ready(b.ctx()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(lost); took > resumeTime {
		t.Errorf("consuming resumed after %v", took)
	}
	if err := b.plain.PublishWithContext(b.ctx(), exchange, "", true, false, amqp.Publishing{Body: []byte("again")}); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, got, "message"); m != "again" {
		t.Errorf("got %q", m)
	}
	r.stopClean()
}

func TestS69ARetryPlanInSetupIsRestoredAsAWhole(t *testing.T) {
	t.Parallel()
	queue := unique("s69")
	plan, err := retry.New(retry.Config{Queue: queue, Source: &topology.Queue{}, Policy: retry.Schedule(time.Second).MaxAttempts(2)})
	if err != nil {
		t.Fatal(err)
	}
	var runs atomic.Int64
	b := newConsumerBenchWith(t, amqpkit.Config{Setup: counted(&runs, plan.Declare)})
	p := newProducer(t, b.conn, producer.Config{})
	if err := p.Publish(b.ctx(), "", plan.ParkingQueue(), amqp.Publishing{}); err != nil { // opens the second connection
		t.Fatal(err)
	}
	before := runs.Load()
	all := plan.Topology().Queues
	for _, q := range all {
		t.Cleanup(func() { _, _ = b.plain.QueueDelete(q.Name, false, false, false) })
	}
	got := make(chan string, 10)
	r := b.start(consumer.Config{Queue: queue, Middleware: []consumer.Middleware{plan.Middleware(p)}},
		func(_ context.Context, d *consumer.Delivery) error {
			got <- string(d.Body)
			return errors.New("always fails")
		})
	slices.Reverse(all) // the consumer's queue last
	for _, q := range all {
		if _, err := b.plain.QueueDelete(q.Name, false, false, false); err != nil {
			t.Fatal(err)
		}
	}
	ac, err := b.conn.ConsumeConnection(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		return runs.Load() > before && b.conn.Err() == nil && plan.Topology().Verify(b.ctx(), ac) == nil
	})
	b.publish(queue, "m")
	for range 2 {
		receive(t, got, "attempt")
	}
	if d := take(t, plan.ParkingQueue(), 1); string(d[0].Body) != "m" {
		t.Errorf("parked %q", d[0].Body)
	}
	r.stopClean()
}

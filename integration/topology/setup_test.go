package topology

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
	"github.com/amqpkit/amqpkit/integration/internal/kit"
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

func TestS69ADeletedQueueIsDeclaredAgainOnTheLivingSession(t *testing.T) {
	t.Parallel()
	exchange, queue := kit.Unique("s69"), kit.Unique("s69")
	quorum := topology.Queue{Name: queue}
	for name, c := range map[string]struct {
		queue topology.Queue
		lose  func(t *testing.T, b *kit.ConsumerBench, ac *amqp.Connection)
	}{
		"deleted": {quorum, func(t *testing.T, b *kit.ConsumerBench, _ *amqp.Connection) {
			t.Helper()
			if _, err := b.Plain.QueueDelete(queue, false, false, false); err != nil {
				t.Fatal(err)
			}
		}},
		// Not classic ones: RabbitMQ was seen to send no basic.cancel for some.
		"deleted with its exchange": {quorum, func(t *testing.T, b *kit.ConsumerBench, _ *amqp.Connection) {
			t.Helper()
			err := b.Plain.ExchangeDelete(exchange, false, false)
			_, e := b.Plain.QueueDelete(queue, false, false, false)
			if err = errors.Join(err, e); err != nil {
				t.Fatal(err)
			}
		}},
		"redeclared without its binding": {quorum, func(t *testing.T, b *kit.ConsumerBench, _ *amqp.Connection) {
			t.Helper()
			_, err := b.Plain.QueueDelete(queue, false, false, false)
			if err != nil {
				t.Fatal(err)
			}
			b.Declare(queue, "quorum", nil)
		}},
		"auto-delete, after a lost connection": {topology.Queue{Name: queue, Type: topology.Classic, AutoDelete: true}, func(t *testing.T, b *kit.ConsumerBench, ac *amqp.Connection) {
			t.Helper()
			b.CutOne(ac)
		}},
		"expired, after a lost connection": {topology.Queue{Name: queue, Type: topology.Classic, Expires: 50 * time.Millisecond}, func(t *testing.T, b *kit.ConsumerBench, ac *amqp.Connection) {
			t.Helper()
			b.CutOne(ac)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			topo := topology.Topology{
				Exchanges: []topology.Exchange{{Name: exchange, Type: topology.Fanout}},
				Queues:    []topology.Queue{c.queue},
				Bindings:  []topology.Binding{{Source: exchange, Queue: queue}},
			}
			var runs atomic.Int64
			b := kit.NewConsumerBenchWith(t, amqpkit.Config{Setup: counted(&runs, topo.Declare), Logger: kit.Logger(t)})
			t.Cleanup(func() { _ = b.Plain.ExchangeDelete(exchange, false, false) })
			t.Cleanup(func() { _, _ = b.Plain.QueueDelete(queue, false, false, false) })
			got := make(chan string, 10)
			r := b.Start(consumer.Config{Queue: queue, Logger: kit.Logger(t)}, func(context.Context, *consumer.Delivery) error {
				select {
				case got <- "":
				default: // more than the test needs
				}
				return nil
			})
			ac, err := b.Conn.ConsumeConnection(b.Ctx())
			if err != nil {
				t.Fatal(err)
			}
			b.Publish(queue, "first")
			kit.Receive(t, got, "message")
			c.lose(t, b, ac)
			lost := time.Now()
			kit.WaitFor(t, func() bool {
				if b.Plain.IsClosed() { // the exchange was not there
					b.Plain = kit.RawChannel(t)
				}
				_ = b.Plain.PublishWithContext(b.Ctx(), exchange, "", false, false, amqp.Publishing{Body: []byte("again")})
				return len(got) > 0
			})
			if took := time.Since(lost); took > resumeTime {
				t.Errorf("consuming resumed after %v", took)
			}
			if err := r.Ready(b.Ctx()); err != nil {
				t.Error(err)
			}
			if err := b.Conn.Ready(b.Ctx()); err != nil || b.Conn.Err() != nil {
				t.Errorf("consuming again, Ready = %v and Err = %v", err, b.Conn.Err())
			}
			r.StopClean()
		})
	}
}

func TestS69AQueueThatIsMissingAtTheFirstSubscribeIsDeclared(t *testing.T) {
	t.Parallel()
	queue := kit.Unique("s69")
	topo := topology.Topology{Queues: []topology.Queue{{Name: queue}}}
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{Setup: topo.Declare})
	t.Cleanup(func() { _, _ = b.Plain.QueueDelete(queue, false, false, false) })
	if _, err := b.Plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	began := time.Now()
	r := b.Start(consumer.Config{Queue: queue}, kit.Bodies(got))
	if took := time.Since(began); took > resumeTime {
		t.Errorf("subscribed after %v", took)
	}
	if err := b.Conn.Ready(b.Ctx()); err != nil {
		t.Error(err)
	}
	b.Publish(queue, "m")
	kit.Receive(t, got, "message")
	r.StopClean()
}

func TestS69TheConnIsNotReadyWhileAQueueIsMissing(t *testing.T) {
	t.Parallel()
	queue, neighbour := kit.Unique("s69"), kit.Unique("s69")
	var runs atomic.Int64
	var log kit.Logbook
	conflict := errors.New("a conflict")
	var failing atomic.Bool
	topo := topology.Topology{Queues: []topology.Queue{{Name: queue}, {Name: neighbour}}}
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{
		Logger: log.Logger(),
		Setup: counted(&runs, func(ctx context.Context, ac *amqp.Connection) error {
			if failing.Load() {
				return conflict
			}
			return topo.Declare(ctx, ac)
		}),
	})
	t.Cleanup(func() { _, _ = b.Plain.QueueDelete(queue, false, false, false) })
	t.Cleanup(func() { _, _ = b.Plain.QueueDelete(neighbour, false, false, false) })
	got, others := make(chan string, 10), make(chan string, 10)
	r := b.Start(consumer.Config{Queue: queue}, kit.Bodies(got))
	n := b.Start(consumer.Config{Queue: neighbour}, kit.Bodies(others))
	p := kit.NewProducer(t, b.Conn, producer.Config{})
	before, err := b.Conn.ConsumeConnection(b.Ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(b.Ctx(), "", neighbour, amqp.Publishing{Body: []byte("before")}); err != nil {
		t.Fatal(err)
	}
	kit.Receive(t, others, "message")

	failing.Store(true)
	first := runs.Load()
	if _, err := b.Plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	if !kit.StopsBeingReady(b.Ctx(), b.Conn) {
		t.Fatal("the Conn stayed ready")
	}
	kit.WaitFor(t, func() bool { return errors.Is(b.Conn.Err(), conflict) })
	var missing *amqpkit.MissingError
	if err := b.Conn.Err(); !errors.As(err, &missing) || !slices.Equal(missing.Queues, []string{queue}) {
		t.Errorf("Err = %v, want a *MissingError for %s", err, queue)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := b.Conn.Ready(ended); !errors.As(err, &missing) || !strings.Contains(err.Error(), queue) {
		t.Errorf("Ready = %v, want it to name %s", err, queue)
	}
	// Publishing and the neighbour continue on the same sessions.
	if err := p.Publish(b.Ctx(), "", neighbour, amqp.Publishing{Body: []byte("meanwhile")}); err != nil {
		t.Error(err)
	}
	if m := kit.Receive(t, others, "message"); m != "meanwhile" {
		t.Errorf("the neighbour got %q", m)
	}
	since := time.Now()
	kit.WaitFor(t, func() bool { return runs.Load() >= first+3 })
	if took := time.Since(since); took < 900*time.Millisecond {
		t.Errorf("Setup ran %d times in %v", runs.Load()-first, took)
	}
	failing.Store(false)
	possible := time.Now()
	if err := b.Conn.Ready(b.Ctx()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(possible); took > resumeTime {
		t.Errorf("ready after %v", took)
	}
	b.Publish(queue, "again")
	if m := kit.Receive(t, got, "message"); m != "again" {
		t.Errorf("got %q", m)
	}
	if after, err := b.Conn.ConsumeConnection(b.Ctx()); err != nil || after != before {
		t.Errorf("the session changed (%v):\n%s", err, &log)
	}
	if log.Count(conflict.Error()) == 0 || log.Count("running Setup again") == 0 {
		t.Errorf("the log does not report the runs:\n%s", &log)
	}
	r.StopClean()
	n.StopClean()
}

func TestS69ManyConsumersShareARunOfSetup(t *testing.T) {
	t.Parallel()
	var topo topology.Topology
	for range 8 {
		topo.Queues = append(topo.Queues, topology.Queue{Name: kit.Unique("s69")})
	}
	var runs atomic.Int64
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{Setup: counted(&runs, topo.Declare)})
	rs := make([]*kit.Running, len(topo.Queues))
	got := make([]chan string, len(topo.Queues))
	for i, q := range topo.Queues {
		t.Cleanup(func() { _, _ = b.Plain.QueueDelete(q.Name, false, false, false) })
		got[i] = make(chan string, 100)
		rs[i] = b.Start(consumer.Config{Queue: q.Name}, kit.Bodies(got[i]))
	}
	plain, err := b.Conn.PublishConnection(b.Ctx())
	if err != nil {
		t.Fatal(err)
	}
	before := runs.Load()
	deleting := time.Now()
	for _, q := range topo.Queues {
		if _, err := b.Plain.QueueDelete(q.Name, false, false, false); err != nil {
			t.Fatal(err)
		}
	}
	kit.WaitFor(t, func() bool {
		return runs.Load() > before && b.Conn.Err() == nil && topo.Verify(b.Ctx(), plain) == nil
	})
	for i, q := range topo.Queues {
		b.Publish(q.Name, "again")
		kit.Receive(t, got[i], "message")
	}
	if n, most := runs.Load()-before, 1+int64(time.Since(deleting)/time.Second); n > most {
		t.Errorf("Setup ran %d times, want %d at most", n, most)
	}
	for _, r := range rs {
		r.StopClean()
	}
}

func TestS69SetupOnceLeavesADeletedQueueDeleted(t *testing.T) {
	t.Parallel()
	queue := kit.Unique("s69")
	var runs atomic.Int64
	topo := topology.Topology{Queues: []topology.Queue{{Name: queue}}}
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{SetupOnce: true, Setup: counted(&runs, topo.Declare)})
	t.Cleanup(func() { _, _ = b.Plain.QueueDelete(queue, false, false, false) })
	var attempts atomic.Int64
	got := make(chan string, 1)
	r := b.Start(consumer.Config{Queue: queue, Declare: func(context.Context, *amqp.Connection) (string, error) {
		attempts.Add(1)
		return "", nil
	}}, kit.Bodies(got))
	before := runs.Load()
	if _, err := b.Plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return attempts.Load() >= 5 })
	var missing *amqpkit.MissingError
	if err := b.Conn.Err(); !errors.As(err, &missing) || missing.Again || runs.Load() != before {
		t.Errorf("Err = %v after %d runs of Setup", err, runs.Load()-before)
	}
	b.Declare(queue, "quorum", nil)
	if err := b.Conn.Ready(b.Ctx()); err != nil {
		t.Error(err)
	}
	// A consumer that ends no longer keeps the Conn from being ready.
	if _, err := b.Plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	if !kit.StopsBeingReady(b.Ctx(), b.Conn) {
		t.Fatal("the Conn stayed ready")
	}
	r.StopClean()
	if err := b.Conn.Err(); err != nil {
		t.Errorf("without a consumer Err = %v", err)
	}
}

func TestS69AConsumersOwnDeclareFindsItsExchangeAgain(t *testing.T) {
	t.Parallel()
	exchange, queue := kit.Unique("s69"), kit.Unique("s69")
	topo := topology.Topology{Exchanges: []topology.Exchange{{Name: exchange, Type: topology.Fanout}}}
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{Setup: topo.Declare, Logger: kit.Logger(t)})
	t.Cleanup(func() { _ = b.Plain.ExchangeDelete(exchange, false, false) })
	t.Cleanup(func() { _, _ = b.Plain.QueueDelete(queue, false, false, false) })
	got := make(chan string, 10)
	names := make(chan string, 100)
	r := b.Start(consumer.Config{Logger: kit.Logger(t), Declare: func(ctx context.Context, ac *amqp.Connection) (string, error) {
		name, err := topology.Queue{Name: queue}.Declare(ctx, ac)
		if err == nil {
			bound := topology.Topology{Bindings: []topology.Binding{{Source: exchange, Queue: name}}}
			err = bound.Declare(ctx, ac)
		}
		if err == nil {
			names <- name
		}
		return name, err
	}}, kit.Bodies(got))
	kit.Receive(t, names, "queue name")
	b.Publish(queue, "first")
	kit.Receive(t, got, "message")
	if err := b.Plain.ExchangeDelete(exchange, false, false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	lost := time.Now()
	kit.Receive(t, names, "queue name")
	if err := b.Conn.Ready(b.Ctx()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(lost); took > resumeTime {
		t.Errorf("consuming resumed after %v", took)
	}
	if err := b.Plain.PublishWithContext(b.Ctx(), exchange, "", true, false, amqp.Publishing{Body: []byte("again")}); err != nil {
		t.Fatal(err)
	}
	if m := kit.Receive(t, got, "message"); m != "again" {
		t.Errorf("got %q", m)
	}
	r.StopClean()
}

func TestS69ARetryPlanInSetupIsRestoredAsAWhole(t *testing.T) {
	t.Parallel()
	queue := kit.Unique("s69")
	plan, err := retry.New(retry.Config{Queue: queue, Source: &topology.Queue{}, Policy: retry.Schedule(time.Second).MaxAttempts(2)})
	if err != nil {
		t.Fatal(err)
	}
	var runs atomic.Int64
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{Setup: counted(&runs, plan.Declare)})
	p := kit.NewProducer(t, b.Conn, producer.Config{})
	if err := p.Publish(b.Ctx(), "", plan.ParkingQueue(), amqp.Publishing{}); err != nil { // opens the second connection
		t.Fatal(err)
	}
	before := runs.Load()
	all := plan.Topology().Queues
	for _, q := range all {
		t.Cleanup(func() { _, _ = b.Plain.QueueDelete(q.Name, false, false, false) })
	}
	got := make(chan string, 10)
	r := b.Start(consumer.Config{Queue: queue, Middleware: []consumer.Middleware{plan.Middleware(p)}},
		func(_ context.Context, d *consumer.Delivery) error {
			got <- string(d.Body)
			return errors.New("always fails")
		})
	slices.Reverse(all) // the consumer's queue last
	for _, q := range all {
		if _, err := b.Plain.QueueDelete(q.Name, false, false, false); err != nil {
			t.Fatal(err)
		}
	}
	ac, err := b.Conn.ConsumeConnection(b.Ctx())
	if err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool {
		return runs.Load() > before && b.Conn.Err() == nil && plan.Topology().Verify(b.Ctx(), ac) == nil
	})
	b.Publish(queue, "m")
	for range 2 {
		kit.Receive(t, got, "attempt")
	}
	if d := kit.Take(t, plan.ParkingQueue(), 1); string(d[0].Body) != "m" {
		t.Errorf("parked %q", d[0].Body)
	}
	r.StopClean()
}

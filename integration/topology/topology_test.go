package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/topology"
)

// sixty returns a topology of sixty objects.
func sixty(name func(string) string) topology.Topology {
	var topo topology.Topology
	for _, x := range []topology.ExchangeType{topology.Direct, topology.Fanout, topology.Topic, topology.Headers} {
		topo.Exchanges = append(topo.Exchanges, topology.Exchange{Name: name(string(x)), Type: x})
	}
	types := []topology.QueueType{topology.Quorum, topology.Classic, topology.Classic, topology.Stream}
	for i := range 28 {
		q := topology.Queue{Name: name(fmt.Sprint("queue-", i)), Type: types[i%len(types)]}
		topo.Queues = append(topo.Queues, q)
		topo.Bindings = append(topo.Bindings, topology.Binding{Source: topo.Exchanges[i%4].Name, Queue: q.Name, Key: "k"})
	}
	return topo
}

func TestDeclareAgainChangesNothing(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	topo := sixty(name)
	topo.Exchanges = append(topo.Exchanges,
		topology.Exchange{Name: name("all"), Type: topology.Topic, Transient: true, AutoDelete: true, Internal: true, AlternateExchange: name("fanout")})
	topo.Queues = append(topo.Queues, everyArgument(t, name)...)
	topo.Queues = append(topo.Queues, topology.Queue{Name: name("transient"), Type: topology.Classic, Transient: true, Exclusive: true})
	topo.Bindings = append(topo.Bindings, topology.Binding{Source: name("topic"), Exchange: name("all"), Key: "#"})
	kit.Declared(t, ac, topo)
	for range 3 {
		if err := topo.Declare(t.Context(), ac); err != nil {
			t.Fatal(err)
		}
	}
	if err := topo.Verify(t.Context(), ac); err != nil {
		t.Error(err)
	}
}

func TestTwentyConnectionsDeclareAtOnce(t *testing.T) {
	topo := sixty(kit.Prefixed(t))
	kit.DeleteAfter(t, topo)
	acs := make([]*amqp.Connection, 20)
	for i := range acs {
		acs[i] = kit.DialRaw(t)
	}
	var wg sync.WaitGroup
	for i, ac := range acs {
		wg.Go(func() {
			if err := topo.Declare(t.Context(), ac); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if err := topo.Verify(t.Context(), acs[0]); err != nil {
		t.Error(err)
	}
}

// joined returns the errors in err.
func joined(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return nil
}

// everyArgument returns queues that together set every typed field.
func everyArgument(t *testing.T, name func(string) string) []topology.Queue {
	t.Helper()
	var onClassic string
	if kit.Broker(t).AtLeast(4, 0) { // refused before
		onClassic = "balanced"
	}
	var delayed *topology.DelayedRetry
	if kit.Broker(t).AtLeast(4, 3) { // refused before
		delayed = &topology.DelayedRetry{Min: time.Second, Max: time.Minute, Type: "all"}
	}
	return []topology.Queue{
		{
			Name: name("every-quorum"), MessageTTL: time.Minute, Expires: time.Hour,
			MaxLength: 10, MaxLengthBytes: 1000, Overflow: topology.RejectPublish,
			DeadLetter:    &topology.DeadLetter{Exchange: "amq.direct", RoutingKey: "dead", Strategy: topology.AtLeastOnce},
			DeliveryLimit: new(3), SingleActiveConsumer: true, LeaderLocator: "client-local", DelayedRetry: delayed,
		},
		{
			Name: name("every-classic"), Type: topology.Classic, MessageTTL: time.Minute, Expires: time.Hour,
			MaxLength: 10, MaxLengthBytes: 1000, Overflow: "reject-publish-dlx", MaxPriority: 5,
			DeadLetter: &topology.DeadLetter{Exchange: "amq.fanout"}, SingleActiveConsumer: true, LeaderLocator: onClassic,
		},
		{
			Name: name("every-stream"), Type: topology.Stream, MaxLengthBytes: 1 << 20,
			MaxAge: time.Hour, MaxSegmentBytes: 1 << 19, LeaderLocator: "client-local",
		},
	}
}

func TestEveryTypedArgumentReachesTheBroker(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	qs := everyArgument(t, name)
	kit.Declared(t, ac, topology.Topology{Queues: qs})
	maxAge := "3600s" // as it was declared
	if kit.Broker(t).AtLeast(4, 3) {
		maxAge = "3600000"
	}
	type change struct {
		queue          int
		change         func(*topology.Queue)
		attribute, has string
	}
	changes := []change{
		{0, func(q *topology.Queue) { q.MessageTTL = 2 * time.Minute }, "x-message-ttl", "60000"},
		{0, func(q *topology.Queue) { q.Expires = 0 }, "x-expires", "3600000"},
		{0, func(q *topology.Queue) { q.MaxLength = 11 }, "x-max-length", "10"},
		{0, func(q *topology.Queue) { q.MaxLengthBytes = 0 }, "x-max-length-bytes", "1000"},
		{0, func(q *topology.Queue) { q.DeadLetter.Exchange = "" }, "x-dead-letter-exchange", "amq.direct"},
		{0, func(q *topology.Queue) { q.DeadLetter.RoutingKey = "other" }, "x-dead-letter-routing-key", "dead"},
		{0, func(q *topology.Queue) { q.DeadLetter.Strategy = "at-most-once" }, "x-dead-letter-strategy", "at-least-once"},
		{0, func(q *topology.Queue) { q.DeliveryLimit = new(4) }, "x-delivery-limit", "3"},
		{0, func(q *topology.Queue) { q.SingleActiveConsumer = false }, "x-single-active-consumer", "true"},
		{0, func(q *topology.Queue) { q.LeaderLocator = "balanced" }, "x-queue-leader-locator", "client-local"},
		{1, func(q *topology.Queue) { q.Overflow = "drop-head" }, "x-overflow", "reject-publish-dlx"},
		{1, func(q *topology.Queue) { q.DeadLetter = nil }, "x-dead-letter-exchange", "amq.fanout"},
		{1, func(q *topology.Queue) { q.MaxLength = 0 }, "x-max-length", "10"},
		{1, func(q *topology.Queue) { q.MaxPriority = 4 }, "x-max-priority", "5"},
		{1, func(q *topology.Queue) { q.AutoDelete = true }, "auto_delete", "false"},
		{2, func(q *topology.Queue) { q.MaxLengthBytes = 0 }, "x-max-length-bytes", "1048576"},
		{2, func(q *topology.Queue) { q.MaxAge = time.Minute }, "x-max-age", maxAge},
		{2, func(q *topology.Queue) { q.MaxSegmentBytes = 1 << 18 }, "x-stream-max-segment-size-bytes", "524288"},
	}
	if kit.Broker(t).AtLeast(4, 3) {
		changes = append(changes,
			change{0, func(q *topology.Queue) { q.DelayedRetry = &topology.DelayedRetry{Min: time.Second, Max: time.Minute} }, "x-delayed-retry-type", "all"},
			change{0, func(q *topology.Queue) {
				q.DelayedRetry = &topology.DelayedRetry{Min: 2 * time.Second, Max: time.Minute, Type: "all"}
			}, "x-delayed-retry-min", "1000"},
			change{0, func(q *topology.Queue) { q.DelayedRetry = &topology.DelayedRetry{Min: time.Second, Type: "all"} }, "x-delayed-retry-max", "60000"},
		)
	}
	for _, test := range changes {
		q := qs[test.queue]
		if q.DeadLetter != nil {
			dead := *q.DeadLetter
			q.DeadLetter = &dead
		}
		test.change(&q)
		_, err := q.Declare(t.Context(), ac)
		var conflict *topology.ConflictError
		if !errors.As(err, &conflict) || conflict.Attribute != test.attribute || conflict.Has != test.has {
			t.Errorf("Declare = %v, want a conflict: %s is %q", err, test.attribute, test.has)
		}
	}
}

func TestUnlimitedDeliveriesAreNotTakenForNone(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)("unlimited")
	topo := topology.Topology{Queues: []topology.Queue{{Name: name, DeliveryLimit: new(topology.Unlimited)}}}
	if !kit.Broker(t).AtLeast(4, 0) {
		var field *amqperr.FieldError
		if err := topo.Declare(t.Context(), ac); !errors.As(err, &field) {
			t.Errorf("Declare = %v, want a FieldError", err)
		}
		if _, err := topo.Queues[0].Declare(t.Context(), ac); !errors.As(err, &field) {
			t.Errorf("Queue.Declare = %v, want a FieldError", err)
		}
		return
	}
	kit.Declared(t, ac, topo)
	ch := kit.RawChannel(t)
	if err := ch.Publish("", name, true, false, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume(name, "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 { // the default limit is 20
		select {
		case d := <-deliveries:
			if err := d.Reject(true); err != nil {
				t.Fatal(err)
			}
		case <-kit.Within(t, 10*time.Second).Done():
			t.Fatal("the message is gone")
		}
	}
}

func TestQueueNamedByTheBroker(t *testing.T) {
	ac := kit.DialRaw(t)
	private := topology.Queue{Type: topology.Classic, Exclusive: true, AutoDelete: true}
	a, err := private.Declare(t.Context(), ac)
	if err != nil {
		t.Fatal(err)
	}
	b, err := private.Declare(t.Context(), ac)
	if err != nil {
		t.Fatal(err)
	}
	if a == "" || b == "" || a == b {
		t.Errorf("names are %q and %q, want two of the broker's", a, b)
	}

	// It can be bound and used like any other.
	key := kit.Unique("key")
	topo := topology.Topology{Bindings: []topology.Binding{{Source: "amq.topic", Queue: a, Key: key}}}
	if err := topo.Declare(t.Context(), ac); err != nil {
		t.Fatal(err)
	}
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.PublishWithContext(t.Context(), "amq.topic", key, false, false, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume(a, "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-deliveries:
	case <-kit.Within(t, 20*time.Second).Done():
		t.Error("its message did not arrive")
	}
}

func TestExchangeToExchangeBindingRoutes(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	kit.Declared(t, ac, topology.Topology{
		Exchanges: []topology.Exchange{{Name: name("in"), Type: topology.Topic}, {Name: name("out"), Type: topology.Headers, Internal: true}},
		Queues:    []topology.Queue{{Name: name("q")}},
		Bindings: []topology.Binding{
			{Source: name("in"), Exchange: name("out"), Key: "order.*"},
			{Source: name("out"), Queue: name("q"), Arguments: amqp.Table{"x-match": "all", "kind": "paid"}},
		},
	})
	ch := kit.RawChannel(t)
	for _, kind := range []string{"sent", "paid"} {
		msg := amqp.Publishing{Headers: amqp.Table{"kind": kind}, Body: []byte(kind)}
		if err := ch.PublishWithContext(t.Context(), name("in"), "order.1", false, false, msg); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(kit.Take(t, name("q"), 1)[0].Body); got != "paid" {
		t.Errorf("received %q, want the message that both bindings route", got)
	}
}

func TestVerifyFindsWhatIsMissing(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	topo := topology.Topology{
		Exchanges: []topology.Exchange{{Name: name("x"), Type: topology.Direct}},
		Queues:    []topology.Queue{{Name: name("q")}, {Name: name("s"), Type: topology.Stream}},
	}
	kit.Declared(t, ac, topo)
	topo.Exchanges = append(topo.Exchanges, topology.Exchange{Name: name("no-x"), Type: topology.Direct})
	topo.Queues = slices.Insert(topo.Queues, 1, topology.Queue{Name: name("no-q")})
	for range 2 { // the second shows that the first created nothing
		var got []string
		for _, err := range joined(topo.Verify(t.Context(), ac)) {
			var missing *topology.MissingError
			if !errors.As(err, &missing) {
				t.Fatal(err)
			}
			got = append(got, missing.Object)
		}
		if want := []string{fmt.Sprintf("exchange %q", name("no-x")), fmt.Sprintf("queue %q", name("no-q"))}; !slices.Equal(got, want) {
			t.Errorf("missing = %v, want %v", got, want)
		}
	}
	if ac.IsClosed() {
		t.Error("Verify cost its connection")
	}
}

func TestQueueWithALongNameStillConflicts(t *testing.T) {
	ac := kit.DialRaw(t)
	q := topology.Queue{Name: kit.Prefixed(t)(strings.Repeat("long", 40)), MaxLength: 5}
	kit.Declared(t, ac, topology.Topology{Queues: []topology.Queue{q}})
	q.MaxLength = 6
	_, err := q.Declare(t.Context(), ac)
	var conflict *topology.ConflictError
	if !errors.As(err, &conflict) || conflict.Attribute != "x-max-length" {
		t.Errorf("Declare = %v, want a conflict of x-max-length", err)
	}
}

func TestDeclareReturnsWhenItsContextEnds(t *testing.T) {
	topo := sixty(kit.Prefixed(t))
	kit.DeleteAfter(t, topo)
	p := amqptest.StartProxy(t, kit.Broker(t).URL())
	ac, err := amqp.Dial(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.CloseDeadline(time.Now()) })
	p.Pause(amqptest.FromBroker)
	why := errors.New("shutting down")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	ended := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() { ended <- time.Now() })
	err = topo.Declare(ctx, ac)
	if took := time.Since(<-ended); took > 250*time.Millisecond {
		t.Errorf("Declare returned %v after its ctx ended, want 250 ms at most", took)
	}
	if !errors.Is(err, why) || len(joined(err)) != 1 {
		t.Errorf("Declare = %v, want the cause of its ctx, once", err)
	}
}

// A brittle connection breaks with its last write.
type brittle struct {
	net.Conn
	writes atomic.Int64 // how many are left
}

func (b *brittle) Write(p []byte) (int, error) {
	if b.writes.Add(-1) <= 0 {
		_ = b.Close()
	}
	return b.Conn.Write(p)
}

func TestDeclareReturnsOneErrorWhenItsConnectionIsLost(t *testing.T) {
	topo := sixty(kit.Prefixed(t))
	kit.DeleteAfter(t, topo)
	ac, err := amqp.DialConfig(kit.Broker(t).URL(), amqp.Config{Dial: func(network, addr string) (net.Conn, error) {
		nc, err := amqp.DefaultDial(5*time.Second)(network, addr)
		b := &brittle{Conn: nc}
		b.writes.Store(40)
		return b, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.CloseDeadline(time.Now()) })
	lost := make(chan time.Time, 1)
	closed := ac.NotifyClose(make(chan *amqp.Error, 1))
	go func() {
		if <-closed != nil {
			lost <- time.Now()
		}
	}()
	err = topo.Declare(t.Context(), ac)
	if took := time.Since(<-lost); took > 250*time.Millisecond {
		t.Errorf("Declare returned %v after its connection was lost, want 250 ms at most", took)
	}
	if len(joined(err)) != 1 {
		t.Errorf("Declare = %v, want the cause, once", err)
	}
	if n := len(joined(topo.Verify(t.Context(), kit.DialRaw(t)))); n == 0 || n == len(topo.Exchanges)+len(topo.Queues) {
		t.Errorf("%d objects are missing, want some: the connection was not lost midway", n)
	}
}

package topology_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/topology"
)

func dial(t *testing.T, b *amqptest.Broker) *amqp.Connection {
	t.Helper()
	ac, err := amqp.Dial(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	return ac
}

func declare(t *testing.T, ac *amqp.Connection, topo topology.Topology) {
	t.Helper()
	if err := topo.Declare(t.Context(), ac); err != nil {
		t.Fatal(err)
	}
}

// publish publishes one message, and returns when the broker has it.
func publish(t *testing.T, ac *amqp.Connection, exchange, key string) {
	t.Helper()
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.PublishWithContext(t.Context(), exchange, key, false, false, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	if err := ch.Close(); err != nil {
		t.Fatal(err)
	}
}

// each splits a joined error.
func each(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return nil
}

// many is a topology with something of each kind, in which things depend on others.
func many() topology.Topology {
	topo := topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: "in", Type: topology.Topic, AlternateExchange: "unrouted"},
			{Name: "unrouted", Type: topology.Fanout},
			{Name: "dead", Type: topology.Direct, Transient: true, AutoDelete: true, Internal: true},
		},
		Queues: []topology.Queue{
			{Name: "rest", Type: topology.Classic, MaxLength: 100, Overflow: topology.RejectPublish},
			{Name: "parked", DeliveryLimit: new(topology.Unlimited)},
			{Name: "script", Type: topology.Classic, Transient: true, AutoDelete: true},
		},
		Bindings: []topology.Binding{{Source: "unrouted", Queue: "rest"}, {Source: "dead", Queue: "parked", Key: "work"}},
	}
	for i := range 20 {
		name := fmt.Sprint("work-", i)
		topo.Queues = append(topo.Queues, topology.Queue{
			Name: name, MessageTTL: time.Minute, DeadLetter: &topology.DeadLetter{Exchange: "dead", RoutingKey: "work"},
		})
		topo.Bindings = append(topo.Bindings, topology.Binding{Source: "in", Queue: name, Key: "work.#"})
	}
	return topo
}

func TestWhatIsDeclaredRoutesAsItSays(t *testing.T) {
	b := amqptest.Start(t, amqptest.Config{ManualClock: true})
	ac := dial(t, b)
	declare(t, ac, many())
	if err := many().Verify(t.Context(), ac); err != nil {
		t.Error(err)
	}
	publish(t, ac, "in", "work.now")
	publish(t, ac, "in", "holiday")
	for queue, want := range map[string]int{"work-0": 1, "work-19": 1, "rest": 1, "parked": 0, "script": 0} {
		if got := len(b.Messages(queue)); got != want {
			t.Errorf("%s has %d messages, want %d", queue, got, want)
		}
	}
	b.Advance(time.Minute)
	if got := len(b.Messages("parked")); got != 20 {
		t.Errorf("after the TTL %d messages are parked, want 20", got)
	}
	for name, want := range map[string]amqptest.Queue{
		"parked": {Name: "parked", Type: "quorum", Durable: true, Ready: 20},
		"script": {Name: "script", Type: "classic"},
	} {
		if got, _ := b.Queue(name); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func TestDeclaringIsIdempotentFromEveryInstanceAtOnce(t *testing.T) {
	b := amqptest.Start(t)
	var wg sync.WaitGroup
	for range 10 {
		ac := dial(t, b)
		wg.Go(func() {
			for range 2 {
				if err := many().Declare(t.Context(), ac); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(b.Queues()); n != len(many().Queues) {
		t.Errorf("the broker has %d queues, want %d", n, len(many().Queues))
	}
}

func TestConflictTellsWhatDiffersAndTheOthersAreDeclared(t *testing.T) {
	b := amqptest.Start(t)
	ac := dial(t, b)
	declare(t, ac, topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x", Type: topology.Direct}},
		Queues: []topology.Queue{
			{Name: "type", Type: topology.Classic},
			{Name: "ttl", MessageTTL: time.Minute},
			{Name: "mine", Type: topology.Classic, Transient: true, Exclusive: true},
		},
	})
	err := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x", Type: topology.Topic}, {Name: "new", Type: topology.Fanout}},
		Queues: []topology.Queue{
			{Name: "type"}, {Name: "ttl", MessageTTL: time.Second}, {Name: "mine", Type: topology.Classic, Transient: true}, {Name: "new"},
		},
		Bindings: []topology.Binding{
			{Source: "new", Queue: "new"},
			{Source: "x", Queue: "new"}, // not tried: its exchange failed
			{Source: "nowhere", Queue: "new"},
		},
	}.Declare(t.Context(), dial(t, b))

	var got []string
	for _, e := range each(err) {
		var c *topology.ConflictError
		var d *topology.DeclareError
		switch {
		case errors.As(e, &c):
			got = append(got, fmt.Sprintf("%s: %s has %s, want %s", c.Object, c.Attribute, c.Has, c.Want))
		case errors.As(e, &d):
			got = append(got, d.Object)
		}
	}
	want := []string{
		`exchange "x": type has direct, want topic`,
		`queue "type": x-queue-type has classic, want quorum`,
		`queue "ttl": x-message-ttl has 60000, want 1000`,
		`queue "mine": exclusive has true, want false`,
	}
	if len(got) != 5 || !slices.Equal(got[:4], want) || !strings.Contains(got[4], `"nowhere"`) {
		t.Errorf("refused:\n%s", strings.Join(got, "\n"))
	}
	publish(t, ac, "new", "")
	publish(t, ac, "x", "")
	if n := len(b.Messages("new")); n != 1 {
		t.Errorf("what was all right got %d messages, want the one of its own exchange", n)
	}
}

func TestVerifyNamesWhatIsMissingAndMakesNothing(t *testing.T) {
	b := amqptest.Start(t)
	ac := dial(t, b)
	declare(t, ac, topology.Topology{Queues: []topology.Queue{{Name: "here"}}})
	err := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "gone", Type: topology.Direct}},
		Queues:    []topology.Queue{{Name: "here"}, {Name: "away"}},
	}.Verify(t.Context(), ac)
	var names []string
	for _, e := range each(err) {
		var m *topology.MissingError
		if errors.As(e, &m) {
			names = append(names, m.Object)
		}
	}
	if want := []string{`exchange "gone"`, `queue "away"`}; !slices.Equal(names, want) {
		t.Errorf("missing %q (%v), want %q", names, err, want)
	}
	if n := len(b.Queues()); n != 1 || ac.IsClosed() {
		t.Errorf("%d queues after Verify, want 1; the connection is closed: %v", n, ac.IsClosed())
	}
}

func TestABrokerThatGoesAwayWhileDeclaringIsOneError(t *testing.T) {
	b := amqptest.Start(t)
	ac := dial(t, b)
	b.CloseConnections(320, "CONNECTION_FORCED - maintenance")
	err := many().Declare(t.Context(), ac)
	if err == nil || len(each(err)) > 1 {
		t.Errorf("Declare = %v, want one error", err)
	}
}

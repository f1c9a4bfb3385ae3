package topology_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/topology"
)

// relying is a topology that names an object in every way in which it may be missing. All its own objects can be declared.
func relying() topology.Topology {
	return topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: "in", Type: topology.Topic, AlternateExchange: "no-alternate"},
			{Name: "raw", Type: topology.Topic, Arguments: amqp.Table{"alternate-exchange": "no-raw-alternate"}},
		},
		Queues: []topology.Queue{
			{Name: "orders", DeadLetter: &topology.DeadLetter{Exchange: "no-exchange", RoutingKey: "no-queue"}}, // the key names no queue there
			{Name: "bills", DeadLetter: &topology.DeadLetter{RoutingKey: "no-queue"}},
			{Name: "more", DeadLetter: &topology.DeadLetter{RoutingKey: "no-queue"}},
			{Name: "script", Type: topology.Classic, Arguments: amqp.Table{"x-dead-letter-exchange": "no-raw-exchange"}},
			{Name: "raw", Arguments: amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "no-raw-queue"}},
		},
		Bindings: []topology.Binding{{Source: "in", Queue: "orders", Key: "#"}},
	}
}

// resolved is a topology all of whose references are its own, the broker's or without a fixed target.
func resolved() topology.Topology {
	return topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: "in", Type: topology.Topic, AlternateExchange: "dead"},
			{Name: "dead", Type: topology.Fanout, AlternateExchange: "amq.fanout"},
		},
		Queues: []topology.Queue{
			{Name: "orders", DeadLetter: &topology.DeadLetter{Exchange: "dead"}},
			{Name: "bills", DeadLetter: &topology.DeadLetter{RoutingKey: "parked"}},
			{Name: "own-key", DeadLetter: &topology.DeadLetter{}},
			{Name: "predeclared", DeadLetter: &topology.DeadLetter{Exchange: "amq.topic", RoutingKey: "no-queue"}},
			{Name: "parked"},
		},
		Bindings: []topology.Binding{{Source: "in", Queue: "orders", Key: "#"}, {Source: "amq.match", Exchange: "in"}},
	}
}

// references returns the objects that err reports as missing, with the fields that name them.
func references(t *testing.T, err error) (found []string) {
	t.Helper()
	for _, e := range each(err) {
		m, ok := errors.AsType[*topology.MissingError](e)
		if !ok || m.Err == nil || len(m.Fields) == 0 || !strings.Contains(e.Error(), m.Fields[0]) || !strings.Contains(e.Error(), "correct the name") {
			t.Errorf("%v (%T), want a MissingError with its field and the fix", e, e)
			continue
		}
		found = append(found, m.Object+" "+strings.Join(m.Fields, " "))
	}
	return found
}

func TestS73EveryReferenceThatIsMissingIsReportedAndTheOthersAreDeclared(t *testing.T) {
	b := amqptest.Start(t)
	ac := dial(t, b)
	err := relying().Declare(t.Context(), ac)
	want := []string{
		`exchange "no-alternate" Exchanges[0] "in".AlternateExchange`,
		`exchange "no-raw-alternate" Exchanges[1] "raw".Arguments["alternate-exchange"]`,
		`exchange "no-exchange" Queues[0] "orders".DeadLetter.Exchange`,
		`queue "no-queue" Queues[1] "bills".DeadLetter.RoutingKey Queues[2] "more".DeadLetter.RoutingKey`,
		`exchange "no-raw-exchange" Queues[3] "script".Arguments["x-dead-letter-exchange"]`,
		`queue "no-raw-queue" Queues[4] "raw".Arguments["x-dead-letter-routing-key"]`,
	}
	if got := references(t, err); !slices.Equal(got, want) {
		t.Errorf("Declare found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := references(t, relying().Verify(t.Context(), ac)); !slices.Equal(got, want) {
		t.Errorf("Verify found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(b.Queues()); n != len(relying().Queues) {
		t.Errorf("the broker has %d queues, want all %d", n, len(relying().Queues))
	}
	publish(t, ac, "in", "order.paid")
	if n := len(b.Messages("orders")); n != 1 {
		t.Errorf("orders has %d messages, want the one that its binding routes", n)
	}

	// Declared elsewhere, they are found.
	elsewhere := topology.Topology{Queues: []topology.Queue{{Name: "no-queue"}, {Name: "no-raw-queue"}}}
	for _, x := range []string{"no-alternate", "no-raw-alternate", "no-exchange", "no-raw-exchange"} {
		elsewhere.Exchanges = append(elsewhere.Exchanges, topology.Exchange{Name: x, Type: topology.Fanout})
	}
	declare(t, ac, elsewhere)
	declare(t, ac, relying())
	if err := relying().Verify(t.Context(), ac); err != nil {
		t.Error(err)
	}
}

func TestS73ReferencesWithinTheTopologyAndToTheBrokersOwnCostNothing(t *testing.T) {
	p := amqptest.StartProxy(t, amqptest.Start(t).URL())
	var passive atomic.Int64
	p.CutAt(amqptest.FromClient, amqptest.BeforeFrame, func(f amqptest.Frame) bool {
		for _, declare := range []func(amqptest.Frame) bool{amqptest.IsMethod(40, 10), amqptest.IsMethod(50, 10)} {
			if declare(f) && passiveBit(f) {
				passive.Add(1)
			}
		}
		return false
	})
	ac, err := amqp.Dial(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.CloseDeadline(time.Now().Add(time.Second)) })
	declare(t, ac, resolved())
	if n := passive.Load(); n != 0 {
		t.Errorf("Declare made %d passive declarations, want none", n)
	}
	if err := resolved().Verify(t.Context(), ac); err != nil {
		t.Error(err)
	}
	if n := int(passive.Load()); n != len(resolved().Exchanges)+len(resolved().Queues) {
		t.Errorf("Verify made %d passive declarations, want one for each object", n)
	}

	// Many queues with one target make one request.
	passive.Store(0)
	many := topology.Topology{}
	for _, name := range strings.Split("abcdefgh", "") {
		many.Queues = append(many.Queues, topology.Queue{Name: name, DeadLetter: &topology.DeadLetter{RoutingKey: "elsewhere"}})
	}
	m, ok := errors.AsType[*topology.MissingError](many.Declare(t.Context(), ac))
	if !ok || len(m.Fields) != 8 || !strings.Contains(m.Error(), "and 5 more") {
		t.Errorf("Declare = %v, want one MissingError with eight fields", m)
	}
	if n := passive.Load(); n != 1 {
		t.Errorf("Declare made %d passive declarations, want one", n)
	}
}

// passiveBit reports whether a declaration is passive: the first bit after its names.
func passiveBit(f amqptest.Frame) bool {
	p := f.Payload[6:] // after the ids and a reserved short
	names := 1
	if f.Payload[1] == 40 {
		names = 2 // an exchange's type follows its name
	}
	for range names {
		p = p[1+int(p[0]):]
	}
	return p[0]&1 != 0
}

func TestS73VerifyLooksForBothEndsOfBindings(t *testing.T) {
	ac := dial(t, amqptest.Start(t))
	err := topology.Topology{Bindings: []topology.Binding{
		{Source: "no-source", Queue: "no-queue"}, {Source: "amq.topic", Exchange: "no-exchange"}, {Source: "no-source", Queue: "no-queue", Key: "k"},
	}}.Verify(t.Context(), ac)
	want := []string{
		`exchange "no-source" Bindings[0].Source Bindings[2].Source`,
		`queue "no-queue" Bindings[0].Queue Bindings[2].Queue`,
		`exchange "no-exchange" Bindings[1].Exchange`,
	}
	if got := references(t, err); !slices.Equal(got, want) {
		t.Errorf("Verify found %q, want %q", got, want)
	}
}

// An exclusive queue that the broker names would be declared again with each attempt.
func TestS73QueueDeclareLooksForTheTargetFirst(t *testing.T) {
	b := amqptest.Start(t)
	ac := dial(t, b)
	q := topology.Queue{Type: topology.Classic, Exclusive: true, DeadLetter: &topology.DeadLetter{Exchange: "no-exchange"}}
	_, err := q.Declare(t.Context(), ac)
	m, ok := errors.AsType[*topology.MissingError](err)
	if !ok || m.Object != `exchange "no-exchange"` || !slices.Equal(m.Fields, []string{"Queue.DeadLetter.Exchange"}) {
		t.Errorf("Declare = %v, want a MissingError of the exchange", err)
	}
	if n := len(b.Queues()); n != 0 {
		t.Errorf("the broker has %d queues, want none", n)
	}
	declare(t, ac, topology.Topology{Exchanges: []topology.Exchange{{Name: "no-exchange", Type: topology.Fanout}}})
	if _, err := q.Declare(t.Context(), ac); err != nil {
		t.Error(err)
	}
	named := topology.Queue{Name: "named", DeadLetter: &topology.DeadLetter{RoutingKey: "no-queue"}}
	if _, err := named.Declare(t.Context(), ac); len(references(t, err)) != 1 || len(b.Queues()) != 2 {
		t.Errorf("Declare = %v with %d queues, want the missing target reported and the queue declared", err, len(b.Queues()))
	}
	self := topology.Queue{Name: "self", DeadLetter: &topology.DeadLetter{RoutingKey: "self"}}
	if _, err := self.Declare(t.Context(), ac); err != nil {
		t.Errorf("a queue that dead-letters to itself: %v", err)
	}
}

package topology

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/topology"
)

// relying names missing objects in every way that RabbitMQ accepts without an error.
func relying(name func(string) string) topology.Topology {
	return topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: name("in"), Type: topology.Topic, AlternateExchange: name("no-alternate")},
			{Name: name("raw"), Type: topology.Topic, Arguments: amqp.Table{"alternate-exchange": name("no-raw-alternate")}},
		},
		Queues: []topology.Queue{
			{Name: name("orders"), DeadLetter: &topology.DeadLetter{Exchange: name("no-exchange"), RoutingKey: "k"}},
			{Name: name("bills"), DeadLetter: &topology.DeadLetter{RoutingKey: name("no-queue")}},
			{Name: name("raw"), Type: topology.Classic, Arguments: amqp.Table{"x-dead-letter-exchange": name("no-raw-exchange")}},
			{Name: name("raw-key"), Arguments: amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name("no-raw-queue")}},
			{Name: name("fine"), DeadLetter: &topology.DeadLetter{Exchange: "amq.direct", RoutingKey: name("no-queue")}},
		},
		Bindings: []topology.Binding{{Source: name("in"), Queue: name("orders"), Key: "#"}},
	}
}

// missingObjects returns the names of the objects in err without their prefix, and expects nothing else in err.
func missingObjects(t *testing.T, name func(string) string, err error) (objects []string) {
	t.Helper()
	for _, e := range joined(err) {
		m, ok := errors.AsType[*topology.MissingError](e)
		if !ok || len(m.Fields) != 1 || !strings.Contains(e.Error(), m.Fields[0]) {
			t.Errorf("%v, want a MissingError that names the field", e)
			continue
		}
		objects = append(objects, strings.NewReplacer(`"`, "", name(""), "").Replace(m.Object))
	}
	return objects
}

func TestS73MissingDeadLetterAndAlternateExchangesAreReported(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	topo := relying(name)
	kit.DeleteAfter(t, topo)
	want := []string{
		"exchange no-alternate", "exchange no-raw-alternate", "exchange no-exchange", "queue no-queue",
		"exchange no-raw-exchange", "queue no-raw-queue",
	}
	for range 2 { // also when everything is declared already
		if got := missingObjects(t, name, topo.Declare(t.Context(), ac)); !slices.Equal(got, want) {
			t.Errorf("Declare found %q, want %q", got, want)
		}
	}
	if got := missingObjects(t, name, topo.Verify(t.Context(), ac)); !slices.Equal(got, want) {
		t.Errorf("Verify found %q, want %q", got, want)
	}
	if err := kit.RawChannel(t).PublishWithContext(t.Context(), name("in"), "order", true, false, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	kit.Take(t, name("orders"), 1) // the objects that name missing ones are declared and bound

	elsewhere := topology.Topology{Queues: []topology.Queue{{Name: name("no-queue")}, {Name: name("no-raw-queue"), Type: topology.Classic}}}
	for _, x := range []string{"no-alternate", "no-raw-alternate", "no-exchange", "no-raw-exchange"} {
		elsewhere.Exchanges = append(elsewhere.Exchanges, topology.Exchange{Name: name(x), Type: topology.Fanout})
	}
	kit.Declared(t, ac, elsewhere)
	if err := topo.Declare(t.Context(), ac); err != nil {
		t.Errorf("Declare = %v, want nil: every target was declared elsewhere", err)
	}
	if err := topo.Verify(t.Context(), ac); err != nil {
		t.Error(err)
	}
}

func TestS73VerifyLooksForBothEndsOfBindings(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	topo := topology.Topology{Bindings: []topology.Binding{
		{Source: name("no-source"), Queue: name("no-queue")}, {Source: "amq.topic", Exchange: name("no-exchange")},
	}}
	got := missingObjects(t, name, topo.Verify(t.Context(), ac))
	if want := []string{"exchange no-source", "queue no-queue", "exchange no-exchange"}; !slices.Equal(got, want) {
		t.Errorf("Verify found %q, want %q", got, want)
	}
}

// A team may declare a queue whose dead letters go to another team's, which its user can neither read nor configure,
// and to a queue that is exclusive to another connection.
func TestS73ReferencesThatTheUserMayNotLookAtDoNotFail(t *testing.T) {
	b := kit.NeedsControl(t)
	name := kit.Prefixed(t)
	owner := kit.DialRaw(t)
	kit.Declared(t, owner, topology.Topology{Queues: []topology.Queue{
		{Name: name("theirs")}, {Name: name("exclusive"), Type: topology.Classic, Exclusive: true},
	}})
	user := kit.Unique("user")
	ctl := func(args ...string) {
		t.Helper()
		if _, err := b.Ctl(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	ctl("add_user", user, "secret")
	t.Cleanup(func() {
		if _, err := b.Ctl(context.WithoutCancel(t.Context()), "delete_user", user); err != nil {
			t.Error(err)
		}
	})
	own := "^" + name("own") + ".*"
	ctl("set_permissions", user, own, own+"|^amq.default$", own)
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, "secret")
	ac, err := amqp.Dial(u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	topo := topology.Topology{}
	for _, target := range []string{"theirs", "exclusive"} {
		topo.Queues = append(topo.Queues, topology.Queue{Name: name("own-" + target), DeadLetter: &topology.DeadLetter{RoutingKey: name(target)}})
	}
	kit.DeleteAfter(t, topo)
	if err := topo.Declare(t.Context(), ac); err != nil {
		t.Errorf("Declare = %v, want nil: both exist", err)
	}
	topo.Queues = append(topo.Queues, topology.Queue{Name: name("own-missing"), DeadLetter: &topology.DeadLetter{Exchange: name("own-missing")}})
	kit.DeleteAfter(t, topology.Topology{Queues: topo.Queues[2:]})
	if got, want := fmt.Sprint(missingObjects(t, name, topo.Declare(t.Context(), ac))), "[exchange own-missing]"; got != want {
		t.Errorf("Declare found %s, want %s", got, want)
	}
}

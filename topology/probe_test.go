package topology_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/topology"
)

func TestProbeFindsWhatExistsAndCreatesNothing(t *testing.T) {
	b := amqptest.Start(t)
	ac := dial(t, b)
	topo := many()
	found, err := topo.Probe(t.Context(), ac)
	if p := topology.Diff(topo, found); err != nil || p.Count(topology.Create) != len(p.Changes) {
		t.Errorf("on an empty broker: %v\n%s", err, p)
	}
	if n := len(b.Queues()); n != 0 {
		t.Errorf("Probe declared %d queues", n)
	}

	declare(t, ac, topo)
	for range 2 {
		publish(t, ac, "", "rest")
	}
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Consume("parked", "", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	declare(t, dial(t, b), topology.Topology{Queues: []topology.Queue{{Name: "locked", Type: topology.Classic, Exclusive: true}}})
	other := topo
	other.Queues = append([]topology.Queue{{Name: "new"}, {Name: "locked", Type: topology.Classic}}, topo.Queues...)
	other.Bindings = append([]topology.Binding{{Source: "in", Queue: "new"}}, topo.Bindings...)

	found, err = other.Probe(t.Context(), ac)
	if err != nil {
		t.Fatal(err)
	}
	p := topology.Diff(other, found)
	if got, want := p.Count(topology.Create), 2; got != want {
		t.Errorf("%d to create, want %d: the queue and its binding\n%s", got, want, p)
	}
	if got, want := p.Count(topology.Unknown), len(topo.Bindings); got != want {
		t.Errorf("%d unknown, want the %d other bindings\n%s", got, want, p)
	}
	if got, want := p.Count(topology.Keep), len(p.Changes)-2-len(topo.Bindings); got != want {
		t.Errorf("%d kept, want %d\n%s", got, want, p)
	}
	if u := found.Usage["rest"]; u.Messages != 2 || u.Consumers != 0 {
		t.Errorf("usage of rest = %+v, want two messages", u)
	}
	if u := found.Usage["parked"]; u.Messages != 0 || u.Consumers != 1 {
		t.Errorf("usage of parked = %+v, want one consumer", u)
	}
	if _, ok := found.Usage["locked"]; ok {
		t.Error("the usage of an exclusive queue was seen")
	}
	for _, what := range []string{"attributes", "bindings", "policies", "other objects"} {
		if !strings.Contains(p.String(), "not seen: "+what+": ") {
			t.Errorf("the plan does not state that %s were not seen:\n%s", what, p)
		}
	}
	if found.Version == "" {
		t.Error("the version is unknown")
	}
}

func TestProbeDoesNotCallARefusedObjectMissing(t *testing.T) {
	b := amqptest.Start(t)
	ac := dial(t, b)
	topo := topology.Queues("free", "secret", "down")
	topo.Exchanges = []topology.Exchange{{Name: "secret", Type: topology.Topic}}
	declare(t, ac, topo)
	b.Intercept(func(r *amqptest.Request) bool {
		switch class, method, _ := r.Method(); {
		case method != 10 || class != 40 && class != 50:
		case strings.Contains(string(r.Payload), "secret"):
			r.CloseChannel(403, "ACCESS_REFUSED - read access to 'secret' in vhost '/' refused for user 'guest'")
			return true
		case strings.Contains(string(r.Payload), "down"):
			r.CloseChannel(404, "NOT_FOUND - home node 'rabbit@a' of durable queue 'down' in vhost '/' is down or inaccessible")
			return true
		}
		return false
	})
	found, err := topo.Probe(t.Context(), ac)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range found.Unseen[4:] {
		got = append(got, u.What)
	}
	if want := []string{`exchange "secret"`, `queue "secret"`, `queue "down"`}; !reflect.DeepEqual(got, want) {
		t.Errorf("unseen %q, want %q", got, want)
	}
	p := topology.Diff(topo, found)
	if p.Drift() || p.Count(topology.Unknown) != 3 || p.Count(topology.Keep) != 1 {
		t.Errorf("plan:\n%s", p)
	}
	if s := p.String(); !strings.Contains(s, `not seen: queue "secret": 403 ACCESS_REFUSED`) || !strings.Contains(s, "grant the user the permission") {
		t.Errorf("plan:\n%s", s)
	}
}

func TestProbeEndsWithItsContextAndConnection(t *testing.T) {
	b := amqptest.Start(t)
	ac := dial(t, b)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("no more")
	cancel(reason)
	if found, err := many().Probe(ctx, ac); !errors.Is(err, reason) || !reflect.DeepEqual(found, topology.Existing{}) {
		t.Errorf("Probe = %v, %v, want %v", found, err, reason)
	}
	ac = dial(t, b)
	b.CloseConnections(320, "CONNECTION_FORCED - maintenance")
	if _, err := many().Probe(t.Context(), ac); err == nil {
		t.Error("Probe without a connection = nil")
	}
}

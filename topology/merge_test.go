package topology

import (
	"reflect"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestQueuesAreDurableQuorumQueues(t *testing.T) {
	got := Queues("a", "b")
	if want := queues(Queue{Name: "a"}, Queue{Name: "b"}); !reflect.DeepEqual(got, want) {
		t.Errorf("Queues = %v, want %v", got, want)
	}
	if err := Queues().Validate(); err != nil {
		t.Errorf("Validate without queues = %v", err)
	}
}

func TestMergeKeepsEqualObjectsOnceAndReportsContradictions(t *testing.T) {
	a := Topology{
		Exchanges: []Exchange{{Name: "x", Type: Topic}},
		Queues:    []Queue{{Name: "q", MaxLength: 5}, {Name: "a"}},
		Bindings:  []Binding{{Source: "x", Queue: "q", Key: "k"}, {Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"n": 1}}},
	}
	b := Topology{
		Exchanges: []Exchange{{Name: "x", Type: Topic}, {Name: "y", Type: Fanout}},
		Queues:    []Queue{{Name: "b"}, {Name: "q", Type: Quorum, Arguments: amqp.Table{"x-max-length": 5}}},
		Bindings: []Binding{
			{Source: "x", Queue: "q", Key: "k"},
			{Source: "x", Exchange: "q", Key: "k"},
			{Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"n": int64(1)}},
			{Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"n": 2}},
		},
	}
	got := Merge(a, b, a)
	want := Topology{
		Exchanges: []Exchange{a.Exchanges[0], b.Exchanges[1]},
		Queues:    []Queue{a.Queues[0], a.Queues[1], b.Queues[0]},
		Bindings:  []Binding{a.Bindings[0], a.Bindings[1], b.Bindings[1], b.Bindings[3]},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Merge:\n got %+v\nwant %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("Validate = %v, want nil", err)
	}

	c := Topology{Exchanges: []Exchange{{Name: "x", Type: Direct}}, Queues: []Queue{{Name: "q"}}}
	err := Merge(a, c).Validate()
	if got, want := strings.Join(fields(err), " "), `Exchanges[1] "x".Name Queues[2] "q".Name`; got != want {
		t.Errorf("Validate = %v, want faults of %s", err, want)
	}
	if want := `topology: Queues[2] "q".Name: is also the name of Queues[0], but x-max-length is 5 there and none here`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Validate = %v, want %s in it", err, want)
	}
	if !reflect.DeepEqual(Merge(), Topology{}) {
		t.Errorf("Merge of nothing = %v", Merge())
	}
}

func TestMergeAllowsUnknownArgumentsInAnyOrder(t *testing.T) {
	plain := Topology{
		Exchanges: []Exchange{{Name: "x", Type: Topic, Arguments: amqp.Table{"x-new": 1}}},
		Queues:    []Queue{{Name: "q", Arguments: amqp.Table{"x-new": 1}}},
		Bindings:  []Binding{{Source: "x", Queue: "q", Arguments: amqp.Table{"x-new": 1}}},
	}
	allowed := Merge(plain)
	allowed.Exchanges[0].AllowUnknownArguments = true
	allowed.Queues[0].AllowUnknownArguments = true
	allowed.Bindings[0].AllowUnknownArguments = true
	for name, ts := range map[string][]Topology{"first": {allowed, plain}, "last": {plain, allowed}} {
		got := Merge(ts...)
		if err := got.Validate(); err != nil || !reflect.DeepEqual(got, allowed) {
			t.Errorf("allowed %s: Merge = %+v, %v", name, got, err)
		}
	}
	if plain.Validate() == nil {
		t.Error("Merge changed its argument")
	}
}

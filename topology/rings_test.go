package topology

import (
	"strings"
	"testing"
	"time"
)

// wait is a queue whose expired messages go on by exchange and key.
func wait(name, exchange, key string) Queue {
	return Queue{Name: name, MessageTTL: time.Second, DeadLetter: &DeadLetter{Exchange: exchange, RoutingKey: key}}
}

func TestS41RingOfExpiryIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		topology Topology
		want     string
	}{
		"queue to itself": {queues(wait("a", "", "a")), `"a" → "a"`},
		"two queues":      {queues(wait("a", "", "b"), wait("b", "", "a")), `"a" → "b" → "a"`},
		"ring behind an entry": {
			queues(wait("entry", "", "a"), wait("a", "", "b"), wait("b", "", "a")), `"a" → "b" → "a"`,
		},
		"through exchanges": {Topology{
			Exchanges: []Exchange{{Name: "t", Type: Topic}, {Name: "f", Type: Fanout}, {Name: "d", Type: Direct}},
			Queues:    []Queue{wait("a", "t", "retry.slow"), wait("b", "d", "back")},
			Bindings: []Binding{
				{Source: "t", Exchange: "f", Key: "retry.*"},
				{Source: "f", Queue: "b"},
				{Source: "d", Queue: "a", Key: "back"},
			},
		}, `"a" → "b" → "a"`},
		"through a predeclared exchange": {Topology{
			Queues:   []Queue{wait("a", "amq.fanout", "")},
			Bindings: []Binding{{Source: "amq.fanout", Queue: "a"}},
		}, `"a" → "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.topology.Validate()
			if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "go round "+test.want+",") {
				t.Errorf("Validate = %v, want the one ring %s", err, test.want)
			}
		})
	}
}

func TestRingWithARejectionIsNoFault(t *testing.T) {
	work := Queue{Name: "work", DeadLetter: &DeadLetter{RoutingKey: "wait"}}
	for name, topology := range map[string]Topology{
		"only a rejection leaves work": queues(work, wait("wait", "", "work")),
		"key of the message":           queues(wait("a", "", ""), wait("b", "amq.direct", "")),
		"no dead letters":              queues(wait("a", "", "b"), Queue{Name: "b", MessageTTL: time.Second}),
		"other key": {
			Queues:   []Queue{wait("a", "amq.direct", "away")},
			Bindings: []Binding{{Source: "amq.direct", Queue: "a", Key: "in"}},
		},
		"exchanges in a ring": {
			Queues:   []Queue{wait("a", "amq.fanout", "")},
			Bindings: []Binding{{Source: "amq.fanout", Exchange: "amq.fanout"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := topology.Validate(); err != nil {
				t.Errorf("Validate = %v, want nil", err)
			}
		})
	}
}

func TestTopicMatches(t *testing.T) {
	for _, test := range []struct {
		pattern, key string
		want         bool
	}{
		{"order.paid", "order.paid", true},
		{"order.paid", "order.sent", false},
		{"order.*", "order.paid", true},
		{"order.*", "order", false},
		{"order.*", "order.paid.late", false},
		{"order.#", "order", true},
		{"order.#", "order.paid.late", true},
		{"#", "any.thing", true},
		{"#.late", "order.paid.late", true},
		{"#.late", "order.late.paid", false},
		{"*.#.late", "order.late", true},
		{"#.a.#.b", "a.b.a.x.b", true},
		{"#.a.#.b", "a.b.a.x", false},
	} {
		if got := topicMatches(test.pattern, test.key); got != test.want {
			t.Errorf("topicMatches(%q, %q) = %v, want %v", test.pattern, test.key, got, test.want)
		}
	}
}

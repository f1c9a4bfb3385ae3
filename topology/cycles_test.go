package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// wait is a queue whose expired messages go on by exchange and key.
func wait(name, exchange, key string) Queue {
	return Queue{Name: name, MessageTTL: time.Second, DeadLetter: &DeadLetter{Exchange: exchange, RoutingKey: key}}
}

// keep is a queue whose expired messages keep their routing key.
func keep(name, exchange string) Queue { return wait(name, exchange, "") }

// work is a queue without a TTL.
func work(exchange, key string) Queue {
	return Queue{Name: "work", DeadLetter: &DeadLetter{Exchange: exchange, RoutingKey: key}}
}

func TestS41RingsAreFound(t *testing.T) {
	bounded, bytes, limited := work("", "wait"), work("", "wait"), work("", "wait")
	bounded.MaxLength = 1000
	bytes.Type, bytes.MaxLengthBytes, bytes.Overflow = Classic, 1<<20, rejectPublishDLX
	limited.DeliveryLimit = new(3)
	rawSelf := Queue{Name: "a", Arguments: amqp.Table{"x-dead-letter-exchange": "", "x-message-ttl": 0}}
	back := wait("wait", "", "work")
	direct, topic, fanout, headers := Exchange{Name: "d", Type: Direct}, Exchange{Name: "t", Type: Topic}, Exchange{Name: "f", Type: Fanout}, Exchange{Name: "h", Type: Headers}
	internal := Exchange{Name: "f", Type: Fanout, Internal: true}
	hash := Exchange{Name: "c", Type: "x-consistent-hash"}
	delayed := Exchange{Name: "x", Type: "x-delayed-message", Arguments: args("x-delayed-type", "fanout")}
	paid := amqp.Table{"x-match": "any", "kind": "paid"}
	for name, test := range map[string]struct {
		topology Topology
		want     string
	}{
		"queue to itself": {queues(wait("a", "", "a")), `"a" (expired) → "a"`},
		"two queues":      {queues(wait("a", "", "b"), wait("b", "", "a")), `"a" (expired) → "b" (expired) → "a"`},
		"ring behind an entry": {
			queues(wait("entry", "", "a"), wait("a", "", "b"), wait("b", "", "a")), `"a" (expired) → "b" (expired) → "a"`,
		},
		"through exchanges": {Topology{
			Exchanges: []Exchange{topic, fanout, direct},
			Queues:    []Queue{wait("a", "t", "retry.slow"), wait("b", "d", "back")},
			Bindings: []Binding{
				{Source: "t", Exchange: "f", Key: "retry.*"},
				{Source: "f", Queue: "b"},
				{Source: "d", Queue: "a", Key: "back"},
			},
		}, `"a" (expired) → "b" (expired) → "a"`},
		"through a predeclared exchange": {Topology{
			Queues:   []Queue{wait("a", "amq.fanout", "")},
			Bindings: []Binding{{Source: "amq.fanout", Queue: "a"}},
		}, `"a" (expired) → "a"`},

		// RabbitMQ's documented example.
		"published by name, the key kept": {queues(keep("a", "")), `"a" (expired) → "a"`},
		"the same, raw":                   {queues(rawSelf), `"a" (expired) → "a"`},
		"rejected by name, the key kept":  {queues(work("", "wait"), keep("wait", "")), `"wait" (expired) → "wait"`},
		"by name beside a binding": {Topology{
			Exchanges: []Exchange{direct},
			Queues:    []Queue{work("", "wait"), keep("wait", "")},
			Bindings:  []Binding{{Source: "d", Queue: "wait", Key: "work"}},
		}, `"wait" (expired) → "wait"`},
		"the name as key of a direct exchange": {Topology{
			Exchanges: []Exchange{direct},
			Queues:    []Queue{keep("a", "")},
			Bindings:  []Binding{{Source: "d", Queue: "a", Key: "a"}},
		}, `"a" (expired) → "a"`},

		"overflow":                     {queues(bounded, back), `"work" (full) → "wait" (expired) → "work"`},
		"overflow, reject-publish-dlx": {queues(bytes, back), `"work" (full) → "wait" (expired) → "work"`},
		"delivery limit":               {queues(limited, back), `"work" (delivery limit) → "wait" (expired) → "work"`},

		"key of the binding, direct": {Topology{
			Exchanges: []Exchange{direct}, Queues: []Queue{keep("a", "d")}, Bindings: []Binding{{Source: "d", Queue: "a", Key: "k"}},
		}, `"a" (expired) → "a"`},
		"key of the binding, topic": {Topology{
			Exchanges: []Exchange{topic, {Name: "again", Type: Topic}},
			Queues:    []Queue{keep("a", "again"), keep("b", "t")},
			Bindings:  []Binding{{Source: "t", Queue: "a", Key: "order.*.eu"}, {Source: "again", Queue: "b", Key: "order.#"}},
		}, `"a" (expired) → "b" (expired) → "a"`},
		"headers": {Topology{
			Exchanges: []Exchange{headers}, Queues: []Queue{wait("a", "h", "k")}, Bindings: []Binding{{Source: "h", Queue: "a", Arguments: paid}},
		}, `"a" (expired) → "a"`},
		"headers, any message": {Topology{
			Exchanges: []Exchange{headers}, Queues: []Queue{wait("a", "h", "")}, Bindings: []Binding{{Source: "h", Queue: "a"}},
		}, `"a" (expired) → "a"`},
		"headers, another exchange": {Topology{
			Queues:   []Queue{keep("a", "amq.headers")},
			Bindings: []Binding{{Source: "amq.match", Queue: "a", Arguments: paid}, {Source: "amq.headers", Queue: "a", Arguments: paid}},
		}, `"a" (expired) → "a"`},
		"exchange to exchange": {Topology{
			Exchanges: []Exchange{topic, internal}, Queues: []Queue{keep("a", "t")},
			Bindings: []Binding{{Source: "t", Exchange: "f", Key: "order.*"}, {Source: "f", Queue: "a"}},
		}, `"a" (expired) → "a"`},
		"an exchange declared elsewhere": {Topology{
			Queues: []Queue{keep("a", "elsewhere")}, Bindings: []Binding{{Source: "elsewhere", Queue: "a", Key: "k"}},
		}, `"a" (expired) → "a"`},
		"alternate exchange": {Topology{
			Exchanges: []Exchange{{Name: "d", Type: Direct, AlternateExchange: "f"}, internal}, Queues: []Queue{keep("a", "d")},
			Bindings: []Binding{{Source: "f", Queue: "a"}},
		}, `"a" (expired) → "a"`},
		"alternate exchange of a known key": {Topology{
			Exchanges: []Exchange{{Name: "d", Type: Direct, Arguments: args("alternate-exchange", "f")}, fanout}, Queues: []Queue{wait("a", "d", "lost")},
			Bindings: []Binding{{Source: "f", Queue: "a"}, {Source: "d", Queue: "elsewhere", Key: "k"}},
		}, `"a" (expired) → "a"`},
		"by hash": {Topology{
			Exchanges: []Exchange{hash}, Queues: []Queue{keep("a", "c")}, Bindings: []Binding{{Source: "c", Queue: "a", Key: "1"}, {Source: "c", Queue: "b", Key: "1"}},
		}, `"a" (expired) → "a"`},
		"delayed": {Topology{
			Exchanges: []Exchange{delayed}, Queues: []Queue{wait("a", "x", "k")}, Bindings: []Binding{{Source: "x", Queue: "a"}},
		}, `"a" (expired) → "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.topology.Validate()
			if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "circle through "+test.want+",") {
				t.Errorf("Validate = %v, want the one cycle %s", err, test.want)
			}
		})
	}
}

func TestS74RingsOfOtherQueuesAreReportedOnceEach(t *testing.T) {
	err := queues(wait("a", "", "b"), wait("b", "", "a"), keep("c", ""), wait("into", "", "c"), wait("d", "", "d")).Validate()
	var got []string
	for _, field := range fields(err) {
		got = append(got, strings.TrimSuffix(field, ".DeadLetter"))
	}
	if want := []string{`Queues[0] "a"`, `Queues[2] "c"`, `Queues[4] "d"`}; !slices.Equal(got, want) {
		t.Errorf("cycles of %q (%v), want %q", got, err, want)
	}
}

func TestS74FixNamesWhatMakesTheRing(t *testing.T) {
	bounded := Queue{Name: "a", MaxLength: 10, DeliveryLimit: new(3), DeadLetter: &DeadLetter{RoutingKey: "b"}}
	for want, topology := range map[string]Topology{
		"set DeadLetter.RoutingKey": queues(keep("a", "")),
		"by rejection only: no MessageTTL, Overflow: topology.RejectPublish, DeliveryLimit: new(topology.Unlimited)": queues(bounded, wait("b", "", "a")),
	} {
		if err := topology.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %s in it", err, want)
		}
	}
}

func TestRingWithARejectionIsNoFault(t *testing.T) {
	back := wait("wait", "", "work")
	refusing, unlimited := work("", "wait"), work("", "wait")
	refusing.MaxLength, refusing.Overflow = 1000, RejectPublish
	unlimited.DeliveryLimit = new(Unlimited)
	for name, topology := range map[string]Topology{
		"only a rejection leaves work":     queues(work("", "wait"), back),
		"a full work queue refuses":        queues(refusing, back),
		"no delivery limit":                queues(unlimited, back),
		"no dead letters":                  queues(wait("a", "", "b"), Queue{Name: "b", MessageTTL: time.Second}),
		"the key of a queue elsewhere":     queues(wait("a", "", "elsewhere")),
		"rejections come back to the tail": queues(work("", "work")),
		"an unused queue is deleted":       queues(Queue{Name: "a", Expires: time.Hour, DeadLetter: &DeadLetter{}}),
		"a wait queue that keeps the key of the work queue": {
			Exchanges: []Exchange{{Name: "retry", Type: Fanout}},
			Queues:    []Queue{work("retry", ""), keep("wait", "")},
			Bindings:  []Binding{{Source: "retry", Queue: "wait"}},
		},
		"a wait queue that keeps the publisher's key": {
			Exchanges: []Exchange{{Name: "orders", Type: Topic}, {Name: "retry", Type: Topic}},
			Queues:    []Queue{work("retry", ""), keep("wait", "orders")},
			Bindings:  []Binding{{Source: "orders", Queue: "work", Key: "order.#"}, {Source: "retry", Queue: "wait", Key: "#"}},
		},
		"a binding whose messages may have any key": {
			Queues: []Queue{keep("a", "")}, Bindings: []Binding{{Source: "amq.topic", Queue: "a", Key: "order.*"}},
		},
		"delay levels": {
			Exchanges: []Exchange{{Name: "level-1", Type: Topic}, {Name: "level-0", Type: Topic}, {Name: "deliver", Type: Topic}},
			Queues:    []Queue{keep("delay-1", "level-0"), keep("delay-0", "deliver"), {Name: "work"}},
			Bindings: []Binding{
				{Source: "level-1", Queue: "delay-1", Key: "1.#"},
				{Source: "level-1", Exchange: "level-0", Key: "0.#"},
				{Source: "level-0", Queue: "delay-0", Key: "*.1.#"},
				{Source: "level-0", Exchange: "deliver", Key: "*.0.#"},
				{Source: "deliver", Queue: "work", Key: "#.work"},
			},
		},
		"other key": {
			Queues:   []Queue{wait("a", "amq.direct", "away")},
			Bindings: []Binding{{Source: "amq.direct", Queue: "a", Key: "in"}},
		},
		"exchanges in a ring": {
			Queues:   []Queue{wait("a", "amq.fanout", "")},
			Bindings: []Binding{{Source: "amq.fanout", Exchange: "amq.fanout"}},
		},
		"alternate exchanges in a ring": {
			Exchanges: []Exchange{{Name: "x", Type: Direct, AlternateExchange: "y"}, {Name: "y", Type: Direct, AlternateExchange: "x"}},
			Queues:    []Queue{wait("a", "x", "k")},
			Bindings:  []Binding{{Source: "y", Queue: "elsewhere", Key: "k"}},
		},
		"an alternate exchange that is not needed": {
			Exchanges: []Exchange{{Name: "x", Type: Direct, AlternateExchange: "f"}, {Name: "f", Type: Fanout}},
			Queues:    []Queue{wait("a", "x", "k"), {Name: "b"}},
			Bindings:  []Binding{{Source: "f", Queue: "a"}, {Source: "x", Queue: "b", Key: "k"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := topology.Validate(); err != nil {
				t.Errorf("Validate = %v, want nil", err)
			}
		})
	}
}

// Everything leads to everything: the work is bounded.
func TestRingsOfADenseTopologyTakeNoTime(t *testing.T) {
	var topo Topology
	for i := range 12 {
		x := fmt.Sprint("x", i)
		topo.Exchanges = append(topo.Exchanges, Exchange{Name: x, Type: Topic})
		topo.Queues = append(topo.Queues, keep(fmt.Sprint("q", i), x))
		for j := range 12 {
			topo.Bindings = append(topo.Bindings, Binding{Source: x, Queue: fmt.Sprint("q", j), Key: fmt.Sprint("k", j)}, Binding{Source: x, Exchange: fmt.Sprint("x", j), Key: "k"})
		}
	}
	start := time.Now()
	if err := topo.Validate(); err == nil {
		t.Error("Validate = nil, want rings")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Validate took %v", took)
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

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		pattern, narrow string
		want            bool
	}{
		{"#", "#", true},
		{"#", "order.*", true},
		{"order.*", "#", false},
		{"order.*", "order.paid", true},
		{"order.*", "order.*", true},
		{"order.*", "order.#", false},
		{"order.#", "order.*.eu", true},
		{"*.*", "order.#", false},
		{"order.#", "order", true},
	} {
		if got := covers(test.pattern, test.narrow); got != test.want {
			t.Errorf("covers(%q, %q) = %v, want %v", test.pattern, test.narrow, got, test.want)
		}
	}
}

package topology

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

// kept is a queue without a limit that a finding could be about.
func kept(name string) Queue { return Queue{Name: name, DeliveryLimit: new(Unlimited)} }

// with returns a queue with one change.
func with(q Queue, change func(*Queue)) Queue { change(&q); return q }

func classicQueue(name string, args amqp.Table) Queue {
	return Queue{Name: name, Type: Classic, Arguments: args}
}

// lintCases holds topologies, and all findings about each: "id field". Findings about unbounded queues are left out, except
// where version begins with "all ".
var lintCases = map[string]struct {
	version  string // empty for the newest
	topology Topology
	want     []string
}{
	"valid":           {"", queues(kept("a")), nil},
	"empty":           {"", Topology{}, nil},
	"invalid name":    {"", queues(kept("amq.a")), []string{`invalid Queues[0] "amq.a".Name`}},
	"invalid binding": {"", Topology{Bindings: []Binding{{Source: "amq.topic"}}}, []string{"invalid Bindings[0].Queue"}},
	"ring of expiry": {
		"", queues(with(kept("a"), func(q *Queue) { q.MessageTTL, q.DeadLetter = time.Second, &DeadLetter{RoutingKey: "a"} })),
		[]string{`invalid Queues[0] "a".DeadLetter`},
	},

	"unlimited, 3.13":      {"3.13.7", queues(kept("a")), []string{`unlimited-delivery-limit Queues[0] "a".DeliveryLimit`}},
	"unlimited, raw, 3.13": {"3.13", queues(Queue{Name: "a", Arguments: args("x-delivery-limit", -1)}), []string{`unlimited-delivery-limit Queues[0] "a".Arguments["x-delivery-limit"]`}},
	"no limit, 3.13":       {"3.13", Queues("a"), nil},

	"delayed retry, 4.2": {
		"4.2", queues(with(kept("a"), func(q *Queue) { q.DelayedRetry = &DelayedRetry{Min: time.Second} })), []string{`delayed-retry Queues[0] "a".DelayedRetry`},
	},
	"delayed retry, 4.3": {"4.3.0", queues(with(kept("a"), func(q *Queue) { q.DelayedRetry = &DelayedRetry{Min: time.Second} })), nil},
	"delayed retry in order": {
		"4.3", queues(with(kept("a"), func(q *Queue) { q.DelayedRetry, q.SingleActiveConsumer = &DelayedRetry{Min: time.Second}, true })),
		[]string{`delayed-retry-order Queues[0] "a".DelayedRetry`},
	},

	"leader locator, classic, 3.13": {
		"3.13", queues(Queue{Name: "a", Type: Classic, LeaderLocator: "balanced"}), []string{`classic-leader-locator Queues[0] "a".LeaderLocator`},
	},
	"leader locator, quorum, 3.13": {"3.13", queues(Queue{Name: "a", LeaderLocator: "balanced"}), nil},

	"classic version 1": {"4.3", queues(classicQueue("a", args("x-queue-version", 1))), []string{`classic-queue-v1 Queues[0] "a".Arguments["x-queue-version"]`}},
	"classic version 2": {"4.3", queues(classicQueue("a", args("x-queue-version", 2))), nil},

	"consumer timeout, classic": {
		"4.3", queues(classicQueue("a", args("x-consumer-timeout", 60_000))), []string{`consumer-timeout Queues[0] "a".Arguments["x-consumer-timeout"]`},
	},
	"consumer timeout, quorum": {"4.3", queues(with(kept("a"), func(q *Queue) { q.Arguments = args("x-consumer-timeout", 60_000) })), nil},

	"local random, 3.13":  {"3.13", oneExchange("x-local-random", nil), []string{`exchange-type Exchanges[0] "x".Type`}},
	"local random, 4.0":   {"4.0", oneExchange("x-local-random", nil), nil},
	"modulus hash, 4.2":   {"4.2", oneExchange("x-modulus-hash", nil), []string{`exchange-type Exchanges[0] "x".Type`}},
	"modulus hash, 4.3":   {"4.3", oneExchange("x-modulus-hash", nil), nil},
	"delayed plugin, 4.2": {"4.2", oneExchange("x-delayed-message", args("x-delayed-type", "fanout")), nil},
	"delayed plugin, 4.3": {"4.3", oneExchange("x-delayed-message", args("x-delayed-type", "fanout")), []string{`exchange-type Exchanges[0] "x".Type`}},

	"three #": {"4.3.5", bound("amq.topic", "#.a.#.b.#"), []string{"topic-wildcards Bindings[0].Key"}},
	"two #":   {"4.3.5", bound("amq.topic", "#.a.#"), nil},
	"three # on a direct exchange": {
		"4.3.5", bound("amq.direct", "#.a.#.b.#"), []string{"literal-wildcard Bindings[0].Key"},
	},

	"transient": {"4.3", queues(Queue{Name: "a", Type: Classic, Transient: true, AutoDelete: true}), []string{`transient-queue Queues[0] "a".Transient`}},
	"exclusive": {"4.3", queues(Queue{Name: "a", Type: Classic, Transient: true, Exclusive: true}), nil},

	"lazy":                       {"3.13", queues(classicQueue("a", args("x-queue-mode", "lazy"))), []string{`ignored-argument Queues[0] "a".Arguments["x-queue-mode"]`}},
	"memory limit":               {"3.13", queues(Queue{Name: "a", Arguments: args("x-max-in-memory-length", 5)}), []string{`ignored-argument Queues[0] "a".Arguments["x-max-in-memory-length"]`}},
	"memory limit in bytes":      {"4.0", queues(with(kept("a"), func(q *Queue) { q.Arguments = args("x-max-in-memory-bytes", 5) })), []string{`ignored-argument Queues[0] "a".Arguments["x-max-in-memory-bytes"]`}},
	"disconnected timeout, 4.2":  {"4.2", queues(with(kept("a"), func(q *Queue) { q.Arguments = args("x-consumer-disconnected-timeout", 5) })), []string{`ignored-argument Queues[0] "a".Arguments["x-consumer-disconnected-timeout"]`}},
	"disconnected timeout, 4.3":  {"4.3", queues(with(kept("a"), func(q *Queue) { q.Arguments = args("x-consumer-disconnected-timeout", 5) })), nil},
	"misspelt":                   {"", queues(with(kept("a"), func(q *Queue) { q.Arguments, q.AllowUnknownArguments = args("x-mesage-ttl", 5), true })), []string{`misspelt-argument Queues[0] "a".Arguments["x-mesage-ttl"]`}},
	"known, allowed":             {"", queues(with(kept("a"), func(q *Queue) { q.Arguments, q.AllowUnknownArguments = args("x-message-ttl", 5), true })), nil},
	"misspelt, refused":          {"", queues(with(kept("a"), func(q *Queue) { q.Arguments = args("x-mesage-ttl", 5) })), []string{`invalid Queues[0] "a".Arguments["x-mesage-ttl"]`}},
	"unknown, allowed":           {"", queues(with(kept("a"), func(q *Queue) { q.Arguments, q.AllowUnknownArguments = args("x-of-a-plugin", 5), true })), nil},
	"misspelt, exchange":         {"", Topology{Exchanges: []Exchange{{Name: "x", Type: Topic, Arguments: args("alternate-exchang", "y"), AllowUnknownArguments: true}}}, []string{`misspelt-argument Exchanges[0] "x".Arguments["alternate-exchang"]`}},
	"misspelt, binding":          {"", Topology{Queues: []Queue{kept("q")}, Bindings: []Binding{{Source: "amq.headers", Queue: "q", Arguments: args("xmatch", "any"), AllowUnknownArguments: true}}}, []string{`misspelt-argument Bindings[0].Arguments["xmatch"]`}},
	"header of a topic exchange": {"", Topology{Queues: []Queue{kept("q")}, Bindings: []Binding{{Source: "amq.topic", Queue: "q", Arguments: args("xmatch", "any"), AllowUnknownArguments: true}}}, nil},

	"limit": {"4.2", queues(Queue{Name: "a", DeliveryLimit: new(3)}), []string{`delivery-limit-without-dead-letter Queues[0] "a".DeliveryLimit`}},
	"limit, raw, 3.13": {
		"3.13", queues(Queue{Name: "a", Arguments: args("x-delivery-limit", 3)}), []string{`delivery-limit-without-dead-letter Queues[0] "a".Arguments["x-delivery-limit"]`},
	},
	"limit and target": {"4.2", queues(Queue{Name: "a", DeliveryLimit: new(3), DeadLetter: &DeadLetter{RoutingKey: "b"}}, kept("b")), nil},
	"limit, 4.3": {
		"4.3", queues(Queue{Name: "a", DeliveryLimit: new(3), DeadLetter: &DeadLetter{RoutingKey: "b"}}, kept("b")), []string{`nack-not-counted Queues[0] "a".DeliveryLimit`},
	},
	"default limit":            {"4.0", Queues("a"), []string{`default-delivery-limit Queues[0] "a".DeliveryLimit`}},
	"default limit and target": {"4.0", queues(Queue{Name: "a", DeadLetter: &DeadLetter{RoutingKey: "b"}}, kept("b")), nil},
	"no default limit":         {"4.0", queues(classicQueue("a", nil), Queue{Name: "b", Type: Stream, MaxAge: time.Hour}), nil},

	"default limit in a cycle": {
		"4.0", queues(work("", "wait"), with(wait("wait", "", "work"), func(q *Queue) { q.DeliveryLimit = new(Unlimited) })),
		[]string{`default-limit-cycle Queues[0] "work".DeliveryLimit`},
	},
	"no limit in a cycle": {
		"4.0", queues(with(work("", "wait"), func(q *Queue) { q.DeliveryLimit = new(Unlimited) }), with(wait("wait", "", "work"), func(q *Queue) { q.DeliveryLimit = new(Unlimited) })), nil,
	},
	"cycle, 3.13": {"3.13", queues(work("", "wait"), wait("wait", "", "work")), nil},

	"dead-letter queue, default limit": {
		"4.3", queues(Queue{Name: "a", DeadLetter: &DeadLetter{RoutingKey: "b"}}, Queue{Name: "b"}), []string{`dead-letter-queue-limit Queues[1] "b".DeliveryLimit`},
	},
	"dead-letter queue, default limit, 4.2": {
		"4.2", queues(Queue{Name: "a", DeadLetter: &DeadLetter{RoutingKey: "b"}}, Queue{Name: "b"}), []string{`default-delivery-limit Queues[1] "b".DeliveryLimit`},
	},
	"dead-letter queue, lower limit": {
		"4.3", queues(Queue{Name: "a", DeadLetter: &DeadLetter{RoutingKey: "b"}}, Queue{Name: "b", DeliveryLimit: new(3), DeadLetter: &DeadLetter{RoutingKey: "c"}}, kept("c")),
		[]string{`dead-letter-queue-limit Queues[1] "b".DeliveryLimit`, `nack-not-counted Queues[1] "b".DeliveryLimit`},
	},
	"dead-letter queue, higher limit": {
		"4.3", queues(Queue{Name: "a", DeadLetter: &DeadLetter{RoutingKey: "b"}}, Queue{Name: "b", DeliveryLimit: new(40)}),
		[]string{`delivery-limit-without-dead-letter Queues[1] "b".DeliveryLimit`, `nack-not-counted Queues[1] "b".DeliveryLimit`},
	},
	"dead-letter queue, limit that the first requeue exceeds": {
		"4.3", queues(Queue{Name: "a", DeliveryLimit: new(3), DeadLetter: &DeadLetter{RoutingKey: "b"}}, Queue{Name: "b", DeliveryLimit: new(4)}),
		[]string{`dead-letter-queue-limit Queues[1] "b".DeliveryLimit`, `nack-not-counted Queues[0] "a".DeliveryLimit`, `nack-not-counted Queues[1] "b".DeliveryLimit`},
	},
	"dead-letter queue, limit that the second requeue exceeds": {
		"4.3", queues(Queue{Name: "a", DeliveryLimit: new(3), DeadLetter: &DeadLetter{RoutingKey: "b"}}, Queue{Name: "b", DeliveryLimit: new(5)}),
		[]string{`delivery-limit-without-dead-letter Queues[1] "b".DeliveryLimit`, `nack-not-counted Queues[0] "a".DeliveryLimit`, `nack-not-counted Queues[1] "b".DeliveryLimit`},
	},
	"dead-letter queue of two queues": {
		"4.3", Topology{
			Exchanges: []Exchange{{Name: "dead", Type: Fanout}},
			Queues: []Queue{
				{Name: "a", DeliveryLimit: new(3), DeadLetter: &DeadLetter{RoutingKey: "b"}},
				{Name: "b"},
				{Name: "c", DeliveryLimit: new(30), DeadLetter: &DeadLetter{Exchange: "dead"}},
				{Name: "d", DeliveryLimit: new(3), DeadLetter: &DeadLetter{Exchange: "dead", RoutingKey: "d"}},
			},
			Bindings: []Binding{
				{Source: "dead", Queue: "b"}, {Source: "amq.topic", Queue: "a", Key: "a"}, {Source: "amq.topic", Queue: "c", Key: "c"}, {Source: "amq.topic", Queue: "d", Key: "d"},
			},
		}, []string{
			`dead-letter-queue-limit Queues[1] "b".DeliveryLimit`,
			`nack-not-counted Queues[0] "a".DeliveryLimit`, `nack-not-counted Queues[2] "c".DeliveryLimit`, `nack-not-counted Queues[3] "d".DeliveryLimit`,
		},
	},
	"wait queue behind a limit": {
		"4.3", queues(Queue{Name: "a", DeadLetter: &DeadLetter{RoutingKey: "b"}}, wait("b", "", "c"), kept("c")), nil,
	},
	"queue behind a wait queue": {"4.3", queues(wait("a", "", "b"), Queue{Name: "b"}), []string{`default-delivery-limit Queues[1] "b".DeliveryLimit`}},
	"queue to itself": {
		"4.3", queues(Queue{Name: "a", DeadLetter: &DeadLetter{RoutingKey: "a"}}), []string{`default-limit-cycle Queues[0] "a".DeliveryLimit`},
	},
	"dead-letter queue of a classic queue": {
		"4.3", queues(Queue{Name: "a", Type: Classic, DeadLetter: &DeadLetter{RoutingKey: "b"}}, Queue{Name: "b"}), []string{`default-delivery-limit Queues[1] "b".DeliveryLimit`},
	},
	"dead-letter queue behind exchanges": {
		"4.3", Topology{
			Exchanges: []Exchange{{Name: "dead", Type: Topic, AlternateExchange: "rest"}, {Name: "rest", Type: Fanout}, {Name: "eu", Type: Direct}},
			Queues:    []Queue{{Name: "a", DeadLetter: &DeadLetter{Exchange: "dead", RoutingKey: "a.eu"}}, {Name: "a.dead"}, {Name: "other"}, {Name: "rest"}},
			Bindings: []Binding{
				{Source: "amq.topic", Queue: "a", Key: "#"},
				{Source: "dead", Exchange: "eu", Key: "*.eu"},
				{Source: "eu", Queue: "a.dead", Key: "a.eu"},
				{Source: "eu", Queue: "other", Key: "b.eu"},
				{Source: "rest", Queue: "rest"},
			},
		}, []string{
			`dead-letter-queue-limit Queues[1] "a.dead".DeliveryLimit`, `default-delivery-limit Queues[2] "other".DeliveryLimit`, `default-delivery-limit Queues[3] "rest".DeliveryLimit`,
		},
	},

	"unknown dead-letter exchange": {
		"", queues(with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "dead"} })), []string{`unknown-dead-letter-exchange Queues[0] "a".DeadLetter.Exchange`},
	},
	"unknown dead-letter exchange, raw": {
		"", queues(with(kept("a"), func(q *Queue) { q.Arguments = args("x-dead-letter-exchange", "dead") })),
		[]string{`unknown-dead-letter-exchange Queues[0] "a".Arguments["x-dead-letter-exchange"]`},
	},
	"predeclared dead-letter exchange": {"", queues(with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "amq.fanout"} })), nil},
	"unknown dead-letter queue": {
		"", queues(with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{RoutingKey: "dead"} })), []string{`unknown-dead-letter-queue Queues[0] "a".DeadLetter.RoutingKey`},
	},
	"unknown alternate exchange": {
		"",
		Topology{Exchanges: []Exchange{{Name: "x", Type: Topic, AlternateExchange: "y"}, {Name: "z", Type: Topic, AlternateExchange: "y"}}},
		[]string{`unknown-alternate-exchange Exchanges[0] "x".AlternateExchange`},
	},
	"unknown binding ends": {
		"",
		Topology{Bindings: []Binding{{Source: "x", Queue: "q"}, {Source: "x", Exchange: "y"}, {Source: "amq.rabbitmq.event", Queue: "q"}}},
		[]string{"unknown-binding-end Bindings[0].Source", "unknown-binding-end Bindings[0].Queue", "unknown-binding-end Bindings[1].Exchange"},
	},

	"unrouted dead letters": {
		"",
		Topology{Exchanges: []Exchange{{Name: "dead", Type: Direct}}, Queues: []Queue{
			with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "dead", RoutingKey: "a"} }), kept("b"),
		}, Bindings: []Binding{{Source: "amq.topic", Queue: "a", Key: "a"}, {Source: "dead", Queue: "b", Key: "b"}}},
		[]string{`dead-letter-unrouted Queues[0] "a".DeadLetter.Exchange`},
	},
	"dead-letter exchange without bindings": {
		"",
		Topology{Exchanges: []Exchange{{Name: "dead", Type: Fanout}}, Queues: []Queue{with(kept("a"), func(q *Queue) { q.Arguments = args("x-dead-letter-exchange", "dead") })}},
		[]string{`dead-letter-unrouted Queues[0] "a".Arguments["x-dead-letter-exchange"]`},
	},
	"dead letters with their own keys": {
		"",
		Topology{Exchanges: []Exchange{{Name: "in", Type: Direct}, {Name: "dead", Type: Topic}}, Queues: []Queue{
			with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "dead"} }), kept("a.dead"),
		}, Bindings: []Binding{{Source: "in", Queue: "a", Key: "order.paid"}, {Source: "in", Queue: "a", Key: "invoice.paid"}, {Source: "dead", Queue: "a.dead", Key: "order.#"}}},
		[]string{`dead-letter-unrouted Queues[0] "a".DeadLetter.Exchange`},
	},
	"dead letters with their own keys, all bound": {
		"", Topology{Exchanges: []Exchange{{Name: "in", Type: Direct}, {Name: "dead", Type: Topic}}, Queues: []Queue{
			with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "dead"} }), kept("a.dead"),
		}, Bindings: []Binding{{Source: "in", Queue: "a", Key: "order.paid"}, {Source: "dead", Queue: "a.dead", Key: "order.#"}}}, nil,
	},
	"dead letters to queues that do not exist": {
		"",
		Topology{Exchanges: []Exchange{{Name: "in", Type: Topic}}, Queues: []Queue{
			with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{} }),
		}, Bindings: []Binding{{Source: "in", Queue: "a", Key: "order.paid"}}},
		[]string{`dead-letter-unrouted Queues[0] "a".DeadLetter.Exchange`},
	},
	"dead letters that may be routed": {
		"", Topology{Exchanges: []Exchange{{Name: "in", Type: Topic}, {Name: "dead", Type: Headers}}, Queues: []Queue{
			with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "dead"} }), with(kept("b"), func(q *Queue) { q.DeadLetter = &DeadLetter{} }), kept("c"),
		}, Bindings: []Binding{{Source: "in", Queue: "a", Key: "#"}, {Source: "in", Queue: "b", Key: "#"}, {Source: "dead", Queue: "c", Arguments: args("kind", "order")}}}, nil,
	},
	"dead letters taken by an alternate exchange": {
		"", Topology{Exchanges: []Exchange{{Name: "dead", Type: Direct, AlternateExchange: "rest"}, {Name: "rest", Type: Fanout}}, Queues: []Queue{
			with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "dead"} }), kept("b"),
		}, Bindings: []Binding{{Source: "amq.topic", Queue: "a", Key: "a"}, {Source: "rest", Queue: "b"}}}, nil,
	},

	"exchange without bindings": {
		"", Topology{Exchanges: []Exchange{{Name: "x", Type: Fanout}}, Queues: []Queue{kept("a")}}, []string{`exchange-without-bindings Exchanges[0] "x".Name`},
	},
	"exchange of a publisher": {"", Topology{Exchanges: []Exchange{{Name: "x", Type: Fanout}}}, nil},
	"exchange with an alternate exchange": {
		"", Topology{Exchanges: []Exchange{{Name: "x", Type: Fanout, AlternateExchange: "amq.fanout"}}, Queues: []Queue{kept("a")}}, nil,
	},

	"internal exchange": {
		"",
		Topology{Exchanges: []Exchange{{Name: "x", Type: Fanout, Internal: true}}, Queues: []Queue{kept("a")}, Bindings: []Binding{{Source: "x", Queue: "a"}}},
		[]string{`unreachable-exchange Exchanges[0] "x".Internal`},
	},
	"internal exchanges with sources": {
		"", Topology{Exchanges: []Exchange{
			{Name: "x", Type: Fanout, Internal: true}, {Name: "y", Type: Fanout, Internal: true}, {Name: "z", Type: Fanout, Internal: true}, {Name: "in", Type: Topic, AlternateExchange: "y"},
		}, Queues: []Queue{with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "z"} }), kept("b")}, Bindings: []Binding{
			{Source: "in", Exchange: "x", Key: "#"}, {Source: "x", Queue: "a"}, {Source: "y", Queue: "a"}, {Source: "z", Queue: "b"},
		}}, nil,
	},

	"queue without a binding": {
		"", Topology{Queues: []Queue{kept("a"), kept("b")}, Bindings: []Binding{{Source: "amq.topic", Queue: "a", Key: "a"}}}, []string{`unreachable-queue Queues[1] "b".Name`},
	},
	"queues by name": {"", queues(kept("a"), kept("b")), nil},
	"queues that receive messages by name": {
		"", Topology{Queues: []Queue{
			with(kept("a"), func(q *Queue) { q.DeadLetter = &DeadLetter{RoutingKey: "a.dead"} }), kept("a.dead"), kept("a.parked"),
			with(wait("a.wait.1s", "", "a"), func(q *Queue) { q.DeliveryLimit = new(Unlimited) }),
			{Name: "replies", Type: Classic, Transient: true, Exclusive: true},
		}, Bindings: []Binding{{Source: "amq.topic", Queue: "a", Key: "a"}}}, nil,
	},
	"queue that a wait queue may return to": {
		"", Topology{Exchanges: []Exchange{{Name: "retry", Type: Fanout}}, Queues: []Queue{
			with(kept("work"), func(q *Queue) { q.DeadLetter = &DeadLetter{Exchange: "retry"} }), with(keep("wait", ""), func(q *Queue) { q.DeliveryLimit = new(Unlimited) }),
		}, Bindings: []Binding{{Source: "retry", Queue: "wait"}}}, nil,
	},

	"wildcard, direct":        {"", bound("amq.direct", "order.*"), []string{"literal-wildcard Bindings[0].Key"}},
	"wildcard inside a word":  {"", bound("amq.topic", "order.paid*"), []string{"literal-wildcard Bindings[0].Key"}},
	"wildcard, topic":         {"", bound("amq.topic", "order.*.#"), nil},
	"star in a direct key":    {"", bound("amq.direct", "2*3"), nil},
	"wildcard, unknown type":  {"", bound("x", "order.paid*"), []string{"unknown-binding-end Bindings[0].Source"}},
	"stream without a limit":  {"", queues(Queue{Name: "s", Type: Stream}), []string{`unbounded-stream Queues[0] "s".MaxAge`}},
	"stream with a size":      {"", queues(Queue{Name: "s", Type: Stream, MaxLengthBytes: 1 << 30}), nil},
	"all unbounded":           {"all", queues(kept("a"), classicQueue("b", nil)), []string{`unbounded-queue Queues[0] "a".MaxLength`, `unbounded-queue Queues[1] "b".MaxLength`}},
	"all bounded":             {"all", queues(with(kept("a"), func(q *Queue) { q.MaxLength = 5 }), classicQueue("b", args("x-message-ttl", 5)), Queue{Name: "c", Type: Classic, AutoDelete: true}), nil},
	"bindings, fanout":        {"", bound("amq.fanout", "", "a"), []string{"redundant-binding Bindings[1]"}},
	"bindings, direct":        {"", bound("amq.direct", "a", "b", "a"), []string{"redundant-binding Bindings[2]"}},
	"bindings, topic":         {"", bound("amq.topic", "a.*", "#", "b.c"), []string{"redundant-binding Bindings[0]", "redundant-binding Bindings[2]"}},
	"bindings, equal pattern": {"", bound("amq.topic", "a.#", "a.#"), []string{"redundant-binding Bindings[1]"}},
	"bindings, overlapping":   {"", bound("amq.topic", "a.*", "*.b"), nil},
	"bindings, headers": {
		"", Topology{Queues: []Queue{kept("q")}, Bindings: []Binding{
			{Source: "amq.headers", Queue: "q", Key: "a", Arguments: args("kind", "a")},
			{Source: "amq.headers", Queue: "q", Key: "b", Arguments: args("kind", "b")},
			{Source: "amq.headers", Queue: "q", Key: "c", Arguments: args("kind", "a")},
		}}, []string{"redundant-binding Bindings[2]"},
	},
	"bindings, consistent hash": {
		"", Topology{Exchanges: []Exchange{{Name: "x", Type: "x-consistent-hash"}}, Queues: []Queue{kept("q")}, Bindings: []Binding{{Source: "x", Queue: "q", Key: "1"}, {Source: "x", Queue: "q", Key: "2"}}}, nil,
	},
	"bindings of two queues": {
		"", Topology{Queues: []Queue{kept("a"), kept("b")}, Bindings: []Binding{{Source: "amq.topic", Queue: "a", Key: "#"}, {Source: "amq.topic", Queue: "b", Key: "x"}}}, nil,
	},
}

// oneExchange returns an exchange of a type, bound to a queue.
func oneExchange(kind ExchangeType, args amqp.Table) Topology {
	return Topology{
		Exchanges: []Exchange{{Name: "x", Type: kind, Arguments: args}},
		Queues:    []Queue{classicQueue("q", nil)}, Bindings: []Binding{{Source: "x", Queue: "q"}},
	}
}

// bound returns a queue that is bound to an exchange with keys.
func bound(source string, keys ...string) Topology {
	t := queues(kept("q"))
	for _, key := range keys {
		t.Bindings = append(t.Bindings, Binding{Source: source, Queue: "q", Key: key})
	}
	return t
}

// lint returns "id field" of each finding, and fails if one of them is incomplete.
func lint(t *testing.T, topo Topology, version string, silence ...string) []string {
	t.Helper()
	findings, err := topo.Lint(version, silence...)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, f := range findings {
		ids = append(ids, f.ID+" "+f.Field)
		if f.Severity == "" || f.Object == "" || f.Problem == "" || f.Consequence == "" || f.Fix == "" {
			t.Errorf("incomplete finding %+v", f)
		}
	}
	return ids
}

func TestLintFindsMistakesAndNothingElse(t *testing.T) {
	unused := map[string]bool{}
	for _, r := range LintRules() {
		unused[r.ID] = true
	}
	for name, test := range lintCases {
		t.Run(name, func(t *testing.T) {
			version, all := strings.CutPrefix(test.version, "all")
			silence := []string{"unbounded-queue"}
			if all {
				silence = nil
			}
			got := lint(t, test.topology, version, silence...)
			if !slices.Equal(got, test.want) {
				t.Errorf("Lint found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			for _, f := range test.want {
				id, _, _ := strings.Cut(f, " ")
				delete(unused, id)
			}
		})
	}
	if len(unused) > 0 {
		t.Errorf("no test finds %v", unused)
	}
}

// TestLintRulesBeginAndEndWithTheirVersions lints the cases of each version-dependent rule just before and at the boundary.
func TestLintRulesBeginAndEndWithTheirVersions(t *testing.T) {
	previous := map[string]string{"4.0": "3.13", "4.3": "4.2", "4.3.5": "4.3.4"}
	for _, r := range LintRules() {
		found := 0
		for name, test := range lintCases {
			field := ""
			for _, f := range test.want {
				if id, at, _ := strings.Cut(f, " "); id == r.ID {
					field = at
				}
			}
			if field == "" {
				continue
			}
			at := func(version string) bool { return slices.Contains(lint(t, test.topology, version), r.ID+" "+field) }
			for _, boundary := range []struct {
				version string
				want    bool
			}{{r.From, true}, {r.Before, false}} {
				if boundary.version == "" {
					continue
				}
				found++
				if at(boundary.version) != boundary.want || at(previous[boundary.version]) == boundary.want {
					t.Errorf("%s: %s: at %s %v, at %s %v; want %v only at %s", r.ID, name,
						previous[boundary.version], at(previous[boundary.version]), boundary.version, at(boundary.version), boundary.want, boundary.version)
				}
			}
		}
		if found == 0 && r.From+r.Before != "" {
			t.Errorf("no case for the versions of %s", r.ID)
		}
	}
}

func TestLintReadsVersionsAsRabbitMQReportsThem(t *testing.T) {
	v1 := queues(classicQueue("a", args("x-queue-version", 1)))
	for version, denied := range map[string]bool{
		"3.13": false, "3.13.7": false, "4.0.0+2": false, "4.0.5": false, "4.1": false, "4.2.9": false,
		"": true, "4.3": true, "4.3.0-rc.1": true, "4.3.6": true, "4.3.6.1": true, "4.10": true, "5.0": true,
	} {
		if got := len(lint(t, v1, version, "unbounded-queue")) == 1; got != denied {
			t.Errorf("version %q: found %v, want %v", version, got, denied)
		}
	}
	for version, denied := range map[string]bool{"": true, "4.3": true, "4.3.5": true, "4.3.10": true, "4.3.4": false, "4.2.9": false, "4.4.0": true} {
		if got := len(lint(t, bound("amq.topic", "#.a.#.b.#"), version, "unbounded-queue")) == 1; got != denied {
			t.Errorf("version %q: found three #: %v, want %v", version, got, denied)
		}
	}
	for _, version := range []string{"4", "four", "v4.3", "4.3 ", "4.3.x", "-4.3", "4..3", "99999.1", "3.12", "3.12.14", "4.3\n"} {
		_, err := v1.Lint(version)
		var wrong *amqperr.FieldError
		if !errors.As(err, &wrong) || wrong.Field != "version" || wrong.Fix == "" {
			t.Errorf("Lint(%q) = %v, want a FieldError about version", version, err)
		}
	}
}

func TestLintSilencesRulesAndObjects(t *testing.T) {
	topo := Topology{
		Queues:   []Queue{{Name: "a@b"}, {Name: "c"}},
		Bindings: []Binding{{Source: "legacy", Queue: "c", Key: "k"}, {Source: "legacy", Queue: "a@b", Key: "k"}, {Source: "legacy", Queue: "c", Key: "k"}},
	}
	const a, c = `default-delivery-limit Queues[0] "a@b".DeliveryLimit`, `default-delivery-limit Queues[1] "c".DeliveryLimit`
	const legacy, twice = `unknown-binding-end Bindings[0].Source`, `redundant-binding Bindings[2]`
	for _, test := range []struct {
		silence []string
		want    []string
	}{
		{nil, []string{a, c, legacy, twice}},
		{[]string{"default-delivery-limit"}, []string{legacy, twice}},
		{[]string{"default-delivery-limit@a@b"}, []string{c, legacy, twice}},
		{[]string{"default-delivery-limit@c", "redundant-binding@c"}, []string{a, legacy}},
		{[]string{"default-delivery-limit@d", "redundant-binding@legacy"}, []string{a, c, legacy, twice}},
		{[]string{"unknown-binding-end@legacy"}, []string{a, c, twice}},
	} {
		if got := lint(t, topo, "", append(test.silence, "unbounded-queue")...); !slices.Equal(got, test.want) {
			t.Errorf("with %q Lint found %q, want %q", test.silence, got, test.want)
		}
	}
	_, err := topo.Lint("x", "unbounded-queue", "unbounded-queues", "nonsense@a")
	for _, want := range []string{"version: ", "silence[1]: ", `did you mean "unbounded-queue"?`, "silence[2]: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Lint = %v, want %q in it", err, want)
		}
	}
}

func TestLintReportsTheMostSeriousFirst(t *testing.T) {
	topo := Topology{Queues: []Queue{{Name: "a"}, {Name: "amq.b"}}, Exchanges: []Exchange{{Name: "x", Type: Fanout}}}
	want := []string{
		`invalid Queues[1] "amq.b".Name`,
		`exchange-without-bindings Exchanges[0] "x".Name`,
		`default-delivery-limit Queues[0] "a".DeliveryLimit`, `default-delivery-limit Queues[1] "amq.b".DeliveryLimit`,
		`unbounded-queue Queues[0] "a".MaxLength`, `unbounded-queue Queues[1] "amq.b".MaxLength`,
	}
	if got := lint(t, topo, ""); !slices.Equal(got, want) {
		t.Errorf("Lint found\n%s", strings.Join(got, "\n"))
	}
}

func TestLintDescribesAFindingInOneLine(t *testing.T) {
	findings, err := Queues("a").Lint("4.3", "unbounded-queue")
	if err != nil || len(findings) != 1 {
		t.Fatal(findings, err)
	}
	const want = `warning default-delivery-limit: Queues[0] "a".DeliveryLimit: is not set, so that RabbitMQ takes 20, and the queue has no dead-letter exchange. ` +
		`RabbitMQ drops a message after its consumers rejected it with requeue, or lost their connections, more than 20 times. ` +
		`Fix: set DeadLetter, or set DeliveryLimit: new(topology.Unlimited) if consumers dispose of every message themselves.`
	if got := findings[0].String(); got != want {
		t.Errorf("String =\n%s\nwant\n%s", got, want)
	}
	if findings[0].Object != `queue "a"` {
		t.Errorf("Object = %s", findings[0].Object)
	}
}

func TestLintSuggestsTheNameThatWasMeant(t *testing.T) {
	findings, err := Topology{
		Exchanges: []Exchange{{Name: "orders", Type: Topic}}, Queues: []Queue{kept("billing")}, Bindings: []Binding{{Source: "order", Queue: "billing", Key: "#"}},
	}.Lint("", "exchange-without-bindings", "unbounded-queue")
	if err != nil || len(findings) != 1 || !strings.Contains(findings[0].Fix, `did you mean "orders"?`) || findings[0].Object != `exchange "order"` {
		t.Errorf("Lint = %v, %v", findings, err)
	}
}

// The rules follow routes and compare bindings. The time must not grow with the square of the topology. See BenchmarkLint.
func TestLintOfALargeTopologyTakesNoTime(t *testing.T) {
	for name, topo := range map[string]Topology{
		"1,000 queues with 5,000 bindings": largeTopology(1000, func(i, j int) string { return fmt.Sprintf("service-%d.*.event-%d.#", i, j) }),
		"one key for all":                  largeTopology(1000, func(int, int) string { return "#" }),
		"5,000 patterns of one queue":      manyPatterns(5000),
		"5,000 unknown ends":               unknownEnds(5000),
	} {
		start := time.Now()
		lint(t, topo, "")
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: Lint took %v", name, d)
		}
	}
}

// largeTopology has a dead-letter exchange that all queues share, and five bindings for each queue.
func largeTopology(n int, key func(i, j int) string) Topology {
	t := Topology{Exchanges: []Exchange{{Name: "in", Type: Topic}, {Name: "dead", Type: Topic}}}
	for i := range n {
		name := fmt.Sprintf("queue-%d", i)
		q := Queue{Name: name, DeadLetter: &DeadLetter{Exchange: "dead", RoutingKey: name + ".x"}}
		if i%2 == 0 {
			q.DeadLetter.RoutingKey = ""
		}
		t.Queues = append(t.Queues, q)
		for j := range 4 {
			t.Bindings = append(t.Bindings, Binding{Source: "in", Queue: name, Key: key(i, j)})
		}
		t.Bindings = append(t.Bindings, Binding{Source: "dead", Queue: name, Key: name + ".*"})
	}
	return t
}

func manyPatterns(n int) Topology {
	t := queues(kept("q"))
	for i := range n {
		t.Bindings = append(t.Bindings, Binding{Source: "amq.topic", Queue: "q", Key: fmt.Sprintf("*.%d.#", i)})
	}
	return t
}

func unknownEnds(n int) (t Topology) {
	for i := range n {
		t.Bindings = append(t.Bindings, Binding{Source: fmt.Sprintf("exchange-%d", i), Queue: fmt.Sprintf("queue-%d", i)})
	}
	return t
}

// FuzzLint builds topologies of a few objects that refer to each other, and checks that every finding names one of them.
func FuzzLint(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d"), "4.3")
	f.Add([]byte{}, "")
	f.Add([]byte(strings.Repeat("\x51\xa3", 60)), "3.13.7")
	f.Fuzz(func(t *testing.T, data []byte, version string) {
		next := func(n int) int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b) % n
		}
		names := []string{"", "a", "b", "a.b", "amq.topic", "amq.x", "\xff", "a\"]"}
		name := func() string { return names[next(len(names))] }
		keys := []string{"", "a", "#", "*", "a.*", "#.#.#", "a#", "b"}
		kinds := []ExchangeType{Direct, Fanout, Topic, Headers, "x-consistent-hash", "x-delayed-message", "", "x-of-a-plugin"}
		arguments := []amqp.Table{
			nil, args("x-dead-letter-exchange", "a"), args("x-dead-letter-exchange", 1), args("x-delivery-limit", "3"), args("x-message-ttl", 1), args("x-mesage-ttl", 1),
			args("alternate-exchange", "b"), args("x-delayed-type", "topic"), args("x-queue-version", 1), args("x-match", "any"), args("a", nil), args("x-single-active-consumer", true),
		}
		var topo Topology
		for range next(4) {
			topo.Exchanges = append(topo.Exchanges, Exchange{
				Name: name(), Type: kinds[next(len(kinds))], AlternateExchange: name(), Internal: next(2) == 0, Arguments: arguments[next(len(arguments))], AllowUnknownArguments: next(2) == 0,
			})
		}
		for range next(5) {
			q := Queue{Name: name(), Type: []QueueType{"", Classic, Stream, "x"}[next(4)], Transient: next(3) == 1, Arguments: arguments[next(len(arguments))], AllowUnknownArguments: next(2) == 0}
			if next(2) == 1 {
				q.DeadLetter = &DeadLetter{Exchange: name(), RoutingKey: name()}
			}
			if next(2) == 1 {
				q.DeliveryLimit = new(next(4) - 2)
			}
			if next(3) == 1 {
				q.MessageTTL = time.Second
			}
			if next(4) == 1 {
				q.DelayedRetry = &DelayedRetry{Min: time.Second}
			}
			topo.Queues = append(topo.Queues, q)
		}
		for range next(6) {
			topo.Bindings = append(topo.Bindings, Binding{
				Source: name(), Queue: name(), Exchange: name(), Key: keys[next(len(keys))], Arguments: arguments[next(len(arguments))], AllowUnknownArguments: next(2) == 0,
			})
		}
		findings, err := topo.Lint(version)
		if err != nil {
			return
		}
		invalid := 0
		for _, found := range findings {
			if !strings.HasPrefix(found.Field, "Exchanges[") && !strings.HasPrefix(found.Field, "Queues[") && !strings.HasPrefix(found.Field, "Bindings[") || found.Object == "" {
				t.Errorf("%+v names no object", found)
			}
			if found.ID == "invalid" {
				invalid++
			}
		}
		if err := topo.Validate(); (err != nil) != (invalid > 0) {
			t.Errorf("Validate = %v, and Lint found %d of it", err, invalid)
		}
	})
}

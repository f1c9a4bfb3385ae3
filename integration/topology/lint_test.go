package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/topology"
)

// reports returns whether a rule has a finding about topo for the version of the broker.
func reports(t *testing.T, topo topology.Topology, id string) bool {
	t.Helper()
	version, _ := kit.DialRaw(t).Properties["version"].(string)
	findings, err := topo.Lint(version)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(findings, func(f topology.Finding) bool { return f.ID == id })
}

// mustReport fails the test if the rule has no finding.
func mustReport(t *testing.T, topo topology.Topology, id string) {
	t.Helper()
	if !reports(t, topo, id) {
		t.Errorf("Lint reports no %s", id)
	}
}

// refusal declares topo without the toolkit's checks and returns the reply code of the refusal, or 0.
func refusal(t *testing.T, topo topology.Topology) int {
	t.Helper()
	kit.DeleteAfter(t, topo)
	ch := kit.RawChannel(t)
	for _, x := range topo.Exchanges {
		if err := ch.ExchangeDeclare(x.Name, string(x.Type), !x.Transient, x.AutoDelete, x.Internal, false, x.Arguments); err != nil {
			return kit.ReplyCode(err)
		}
	}
	for _, q := range topo.Queues {
		args := amqp.Table{"x-queue-type": "quorum"}
		if q.Type != "" {
			args["x-queue-type"] = string(q.Type)
		}
		for k, v := range q.Arguments {
			args[k] = v
		}
		if _, err := ch.QueueDeclare(q.Name, !q.Transient, q.AutoDelete, q.Exclusive, false, args); err != nil {
			return kit.ReplyCode(err)
		}
	}
	for _, b := range topo.Bindings {
		if err := ch.QueueBind(b.Queue, b.Key, b.Source, false, b.Arguments); err != nil {
			return kit.ReplyCode(err)
		}
	}
	return 0
}

func TestRabbitMQRefusesExactlyTheFeaturesThatLintReports(t *testing.T) {
	topic := func(key string) func(string) topology.Topology {
		return func(name string) topology.Topology {
			return topology.Topology{Queues: []topology.Queue{{Name: name}}, Bindings: []topology.Binding{{Source: "amq.topic", Queue: name, Key: key}}}
		}
	}
	queue := func(kind topology.QueueType, key string, value any) func(string) topology.Topology {
		return func(name string) topology.Topology {
			return topology.Topology{Queues: []topology.Queue{{Name: name, Type: kind, Arguments: amqp.Table{key: value}}}}
		}
	}
	exchange := func(kind topology.ExchangeType, args amqp.Table) func(string) topology.Topology {
		return func(name string) topology.Topology {
			return topology.Topology{Exchanges: []topology.Exchange{{Name: name, Type: kind, Arguments: args}}}
		}
	}
	for i, test := range []struct {
		rule string
		topo func(name string) topology.Topology
	}{
		{"classic-queue-v1", queue(topology.Classic, "x-queue-version", 1)},
		{"classic-queue-v1", queue(topology.Classic, "x-queue-version", 2)},
		{"consumer-timeout", queue(topology.Classic, "x-consumer-timeout", 60_000)},
		{"consumer-timeout", queue(topology.Stream, "x-consumer-timeout", 60_000)},
		{"consumer-timeout", queue(topology.Quorum, "x-consumer-timeout", 60_000)},
		{"classic-leader-locator", queue(topology.Classic, "x-queue-leader-locator", "balanced")},
		{"exchange-type", exchange("x-local-random", nil)},
		{"exchange-type", exchange("x-modulus-hash", nil)},
		{"topic-wildcards", topic("#.a.#.b.#")},
		{"topic-wildcards", topic("#.a.#")},
	} {
		topo := test.topo(kit.Unique(fmt.Sprint("lint-", i)))
		code, reported := refusal(t, topo), reports(t, topo, test.rule)
		if reported && code != amqp.PreconditionFailed || !reported && code != 0 {
			t.Errorf("%s %d: Lint reports it: %v, reply code %d", test.rule, i, reported, code)
		}
	}
	if topo := exchange("x-delayed-message", amqp.Table{"x-delayed-type": "topic"})(kit.Unique("delayed")); reports(t, topo, "exchange-type") {
		if code := refusal(t, topo); code != amqp.PreconditionFailed {
			t.Errorf("x-delayed-message: reply code %d", code)
		}
	}
}

// Whether RabbitMQ 4.3 permits transient queues depends on its configuration. Lint says so.
func TestRabbitMQAcceptsTransientQueuesOrClosesTheConnection(t *testing.T) {
	topo := topology.Topology{Queues: []topology.Queue{{Name: kit.Unique("transient"), Type: topology.Classic, Transient: true}}}
	code, reported := refusal(t, topo), reports(t, topo, "transient-queue")
	t.Logf("reply code %d", code)
	if code != 0 && (code != amqp.InternalError || !reported) {
		t.Errorf("reply code %d, and Lint reports it: %v", code, reported)
	}
}

func TestRabbitMQAcceptsAndIgnoresArgumentsThatLintReports(t *testing.T) {
	name := kit.Prefixed(t)
	for key, topo := range map[string]topology.Topology{
		"ignored-argument": {Queues: []topology.Queue{
			{Name: name("lazy"), Type: topology.Classic, Arguments: amqp.Table{"x-queue-mode": "lazy"}},
			{Name: name("memory"), Arguments: amqp.Table{"x-max-in-memory-length": 1, "x-max-in-memory-bytes": 1}},
		}},
		"misspelt-argument": {Queues: []topology.Queue{{Name: name("misspelt"), Arguments: amqp.Table{"x-max-lenght": 1}, AllowUnknownArguments: true}}},
	} {
		mustReport(t, topo, key)
		if code := refusal(t, topo); code != 0 {
			t.Errorf("%s: reply code %d", key, code)
		}
		ch := confirming(t)
		for _, q := range topo.Queues {
			for range 3 {
				published(t, ch, "", q.Name)
			}
			if n := kit.Purged(t, q.Name); n != 3 {
				t.Errorf("%s: %s kept %d messages", key, q.Name, n)
			}
		}
	}
}

func confirming(t *testing.T) *amqp.Channel {
	t.Helper()
	ch := kit.RawChannel(t)
	kit.Must(t, ch.Confirm(false))
	return ch
}

// published publishes a message and waits for its confirm.
func published(t *testing.T, ch *amqp.Channel, exchange, key string) {
	t.Helper()
	c, err := ch.PublishWithDeferredConfirm(exchange, key, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent})
	kit.Must(t, err)
	if ok, err := c.WaitContext(t.Context()); err != nil || !ok {
		t.Fatalf("the message was not confirmed: %v", err)
	}
}

// failures fetches a message from a queue and requeues it, n times or until the queue is empty. It returns how often.
func failures(t *testing.T, ch *amqp.Channel, queue string, n int, requeue func(amqp.Delivery) error) int {
	t.Helper()
	for i := range n {
		d, ok := fetched(t, ch, queue)
		if !ok {
			return i
		}
		kit.Must(t, requeue(d))
	}
	return n
}

// fetched gets a message. It asks a few times, because a requeued message is ready after a moment.
func fetched(t *testing.T, ch *amqp.Channel, queue string) (amqp.Delivery, bool) {
	t.Helper()
	for range 20 {
		d, ok, err := ch.Get(queue, false)
		kit.Must(t, err)
		if ok {
			return d, true
		}
	}
	return amqp.Delivery{}, false
}

func reject(d amqp.Delivery) error { return d.Reject(true) }

func nack(d amqp.Delivery) error { return d.Nack(false, true) }

func TestRabbitMQDropsTheMessagesThatLintReports(t *testing.T) {
	unlimited := new(topology.Unlimited)
	for rule, test := range map[string]struct {
		topo   func(name func(string) string) topology.Topology
		settle func(amqp.Delivery) error
		fails  int // how often the message is delivered
	}{
		"default-delivery-limit": {func(name func(string) string) topology.Topology {
			return topology.Topology{Queues: []topology.Queue{{Name: name("work")}}}
		}, reject, 21},
		"delivery-limit-without-dead-letter": {func(name func(string) string) topology.Topology {
			return topology.Topology{Queues: []topology.Queue{{Name: name("work"), DeliveryLimit: new(2)}}}
		}, reject, 3},
		"default-limit-cycle": {func(name func(string) string) topology.Topology {
			return topology.Topology{Queues: []topology.Queue{
				{Name: name("work"), DeadLetter: &topology.DeadLetter{RoutingKey: name("wait")}},
				{Name: name("wait"), DeadLetter: &topology.DeadLetter{RoutingKey: name("work")}, DeliveryLimit: unlimited, Arguments: amqp.Table{"x-message-ttl": 0}},
			}}
		}, reject, 21},
		"unknown-dead-letter-exchange": {func(name func(string) string) topology.Topology {
			return topology.Topology{Queues: []topology.Queue{{Name: name("work"), DeadLetter: &topology.DeadLetter{Exchange: name("missing")}}}}
		}, func(d amqp.Delivery) error { return d.Reject(false) }, 1},
		"unknown-dead-letter-queue": {func(name func(string) string) topology.Topology {
			return topology.Topology{Queues: []topology.Queue{{Name: name("work"), DeadLetter: &topology.DeadLetter{RoutingKey: name("missing")}}}}
		}, func(d amqp.Delivery) error { return d.Reject(false) }, 1},
		"dead-letter-unrouted": {func(name func(string) string) topology.Topology {
			return topology.Topology{
				Exchanges: []topology.Exchange{{Name: name("dead"), Type: topology.Direct}},
				Queues:    []topology.Queue{{Name: name("work"), DeadLetter: &topology.DeadLetter{Exchange: name("dead"), RoutingKey: "x"}}, {Name: name("dead")}},
				Bindings:  []topology.Binding{{Source: name("dead"), Queue: name("dead"), Key: "y"}},
			}
		}, func(d amqp.Delivery) error { return d.Reject(false) }, 1},
	} {
		t.Run(rule, func(t *testing.T) {
			topo := test.topo(kit.Prefixed(t))
			mustReport(t, topo, rule)
			raw := asArguments(topo)
			if code := refusal(t, raw); code != 0 {
				t.Fatalf("reply code %d", code)
			}
			ch := confirming(t)
			published(t, ch, "", topo.Queues[0].Name)
			if n := failures(t, ch, topo.Queues[0].Name, 50, test.settle); n != test.fails {
				t.Errorf("the message was delivered %d times, want %d", n, test.fails)
			}
			for _, q := range topo.Queues {
				if n := kit.Purged(t, q.Name); n != 0 {
					t.Errorf("queue %s has %d messages", q.Name, n)
				}
			}
		})
	}
}

// asArguments sets the fields of the queues that these tests use as arguments, for refusal.
func asArguments(topo topology.Topology) topology.Topology {
	topo.Queues = slices.Clone(topo.Queues)
	for i, q := range topo.Queues {
		args := amqp.Table{}
		for k, v := range q.Arguments {
			args[k] = v
		}
		if d := q.DeadLetter; d != nil {
			args["x-dead-letter-exchange"] = d.Exchange
			if d.RoutingKey != "" {
				args["x-dead-letter-routing-key"] = d.RoutingKey
			}
		}
		if q.DeliveryLimit != nil {
			args["x-delivery-limit"] = *q.DeliveryLimit
		}
		topo.Queues[i].Arguments = args
	}
	return topo
}

// RabbitMQ 4.3 counts the deliveries before a message died of its limit, and no nacks. Earlier versions do the opposite.
func TestRabbitMQCountsDeliveriesAsLintReports(t *testing.T) {
	name := kit.Prefixed(t)
	dying := topology.Topology{Queues: []topology.Queue{
		{Name: name("work"), DeadLetter: &topology.DeadLetter{RoutingKey: name("dead")}}, {Name: name("dead")},
	}}
	nacked := topology.Topology{Queues: []topology.Queue{{Name: name("nacked"), DeliveryLimit: new(2)}}}
	for _, topo := range []topology.Topology{dying, nacked} {
		if code := refusal(t, asArguments(topo)); code != 0 {
			t.Fatalf("reply code %d", code)
		}
	}
	ch := confirming(t)
	published(t, ch, "", name("work"))
	failures(t, ch, name("work"), 50, reject)
	var last amqp.Delivery
	kit.WaitFor(t, func() (ok bool) { last, ok = fetched(t, ch, name("dead")); return ok })
	kit.Must(t, last.Reject(true))
	left := failures(t, ch, name("dead"), 1, func(d amqp.Delivery) error { return d.Ack(false) })
	if reported := reports(t, dying, "dead-letter-queue-limit"); reported != (left == 0) {
		t.Errorf("Lint reports dead-letter-queue-limit: %v, and %d messages are left after one requeue", reported, left)
	}
	published(t, ch, "", name("nacked"))
	n := failures(t, ch, name("nacked"), 10, nack)
	if reported := reports(t, nacked, "nack-not-counted"); reported != (n == 10) || !reported && n != 3 {
		t.Errorf("Lint reports nack-not-counted: %v, and the message was delivered %d times", reported, n)
	}
}

// Without delayed retry, RabbitMQ delivers a rejected message again at once. With it, another message overtakes.
func TestRabbitMQDelaysRetriesAsLintReports(t *testing.T) {
	topo := topology.Topology{Queues: []topology.Queue{{Name: kit.Unique("orders"), Arguments: amqp.Table{
		"x-delayed-retry-type": "failed", "x-delayed-retry-min": 60_000, "x-delayed-retry-max": 60_000, "x-single-active-consumer": true, "x-delivery-limit": -1,
	}}}}
	if code := refusal(t, topo); code != 0 {
		t.Fatalf("reply code %d", code)
	}
	ch := confirming(t)
	kit.Must(t, ch.Qos(1, 0, false))
	deliveries, err := ch.Consume(topo.Queues[0].Name, "", false, false, false, false, nil)
	kit.Must(t, err)
	published(t, ch, "", topo.Queues[0].Name)
	kit.Must(t, kit.Receive(t, deliveries, "first delivery").Reject(true))
	published(t, ch, "", topo.Queues[0].Name)
	overtaken := !kit.Receive(t, deliveries, "second delivery").Redelivered
	if ignored := reports(t, topo, "delayed-retry"); ignored == overtaken {
		t.Errorf("Lint reports delayed-retry: %v, overtaken: %v", ignored, overtaken)
	}
	if order := reports(t, topo, "delayed-retry-order"); order != overtaken {
		t.Errorf("Lint reports delayed-retry-order: %v, overtaken: %v", order, overtaken)
	}
}

func TestRabbitMQReturnsTheMessagesThatLintReports(t *testing.T) {
	for rule, test := range map[string]struct {
		topo func(name func(string) string) topology.Topology
		key  string
	}{
		"exchange-without-bindings": {func(name func(string) string) topology.Topology {
			return topology.Topology{Exchanges: []topology.Exchange{{Name: name("x"), Type: topology.Fanout}}, Queues: []topology.Queue{{Name: name("q")}}}
		}, ""},
		"unknown-alternate-exchange": {func(name func(string) string) topology.Topology {
			return topology.Topology{Exchanges: []topology.Exchange{{Name: name("x"), Type: topology.Fanout, Arguments: amqp.Table{"alternate-exchange": name("missing")}}}}
		}, ""},
		"literal-wildcard": {func(name func(string) string) topology.Topology {
			return topology.Topology{
				Exchanges: []topology.Exchange{{Name: name("x"), Type: topology.Direct}}, Queues: []topology.Queue{{Name: name("q")}},
				Bindings: []topology.Binding{{Source: name("x"), Queue: name("q"), Key: "order.*"}},
			}
		}, "order.paid"},
		"literal-wildcard, topic": {func(name func(string) string) topology.Topology {
			return topology.Topology{
				Exchanges: []topology.Exchange{{Name: name("x"), Type: topology.Topic}}, Queues: []topology.Queue{{Name: name("q")}},
				Bindings: []topology.Binding{{Source: name("x"), Queue: name("q"), Key: "order.paid*"}, {Source: name("x"), Queue: name("q"), Key: "order#"}},
			}
		}, "order.paid.twice"},
	} {
		topo := test.topo(kit.Prefixed(t))
		id, _, _ := strings.Cut(rule, ",")
		mustReport(t, topo, id)
		if code := refusal(t, topo); code != 0 {
			t.Fatalf("%s: reply code %d", rule, code)
		}
		ch := kit.RawChannel(t)
		returned := ch.NotifyReturn(make(chan amqp.Return, 1))
		kit.Must(t, ch.PublishWithContext(t.Context(), topo.Exchanges[0].Name, test.key, true, false, amqp.Publishing{}))
		if r := kit.Receive(t, returned, rule); r.ReplyCode != amqp.NoRoute {
			t.Errorf("%s: %+v", rule, r)
		}
	}
}

func TestRabbitMQRefusesWhatCannotBeReached(t *testing.T) {
	name := kit.Prefixed(t)
	internal := topology.Topology{
		Exchanges: []topology.Exchange{{Name: name("internal"), Type: topology.Fanout, Internal: true}}, Queues: []topology.Queue{{Name: name("q")}},
		Bindings: []topology.Binding{{Source: name("internal"), Queue: name("q")}},
	}
	mustReport(t, internal, "unreachable-exchange")
	if code := refusal(t, internal); code != 0 {
		t.Fatalf("reply code %d", code)
	}
	ch := kit.RawChannel(t)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	kit.Must(t, ch.PublishWithContext(t.Context(), name("internal"), "", false, false, amqp.Publishing{}))
	if err := kit.Receive(t, closed, "refusal"); err.Code != amqp.AccessRefused {
		t.Errorf("publishing to an internal exchange: %v", err)
	}
	dangling := topology.Topology{Queues: []topology.Queue{{Name: name("q")}}, Bindings: []topology.Binding{{Source: name("missing"), Queue: name("q")}}}
	mustReport(t, dangling, "unknown-binding-end")
	if code := refusal(t, dangling); code != amqp.NotFound {
		t.Errorf("binding to a missing exchange: reply code %d", code)
	}
}

// Each queue gets a message once, with and without the bindings that Lint calls redundant.
func TestRedundantBindingsChangeNothing(t *testing.T) {
	version, _ := kit.DialRaw(t).Properties["version"].(string)
	headers := amqp.Table{"lint": "redundant"}
	for kind, test := range map[topology.ExchangeType]struct {
		keys []string
		args amqp.Table
		sent string
	}{
		topology.Fanout:  {keys: []string{"a", "b"}},
		topology.Direct:  {keys: []string{"a", "a"}, sent: "a"},
		topology.Topic:   {keys: []string{"*.order.paid", "#.paid", "eu.*.paid"}, sent: "eu.order.paid"},
		topology.Headers: {keys: []string{"a", "b"}, args: headers},
	} {
		name := kit.Prefixed(t)
		source, queue := name(string(kind)), name(string(kind))
		topo := topology.Topology{Exchanges: []topology.Exchange{{Name: source, Type: kind}}, Queues: []topology.Queue{{Name: queue}}}
		for _, key := range test.keys {
			topo.Bindings = append(topo.Bindings, topology.Binding{Source: source, Queue: queue, Key: key, Arguments: test.args})
		}
		if code := refusal(t, topo); code != 0 {
			t.Fatalf("%s: reply code %d", kind, code)
		}
		findings, err := topo.Lint(version)
		kit.Must(t, err)
		ch := confirming(t)
		returned := ch.NotifyReturn(make(chan amqp.Return, 1))
		arrives := func() {
			t.Helper()
			kit.WaitFor(t, func() bool { // RabbitMQ 4.3 changes the routes a moment after the answer
				c, err := ch.PublishWithDeferredConfirm(source, test.sent, true, false, amqp.Publishing{Headers: headers})
				kit.Must(t, err)
				c.Wait()
				select {
				case <-returned:
					return false
				default:
					return true
				}
			})
			if n := kit.Purged(t, queue); n != 1 {
				t.Errorf("%s: %d copies of a message arrived, want 1", kind, n)
			}
		}
		arrives()
		removed := 0
		for _, f := range findings {
			if f.ID != "redundant-binding" {
				continue
			}
			removed++
			var i int
			_, err := fmt.Sscanf(f.Field, "Bindings[%d]", &i)
			kit.Must(t, err)
			if b := topo.Bindings[i]; kind != topology.Direct { // RabbitMQ keeps two equal bindings as one
				kit.Must(t, ch.QueueUnbind(b.Queue, b.Key, b.Source, b.Arguments))
			}
		}
		if removed != len(test.keys)-1 {
			t.Errorf("%s: Lint calls %d of %d bindings redundant", kind, removed, len(test.keys))
		}
		arrives()
	}
}

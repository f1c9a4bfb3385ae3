package diagram

import (
	"fmt"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// plan returns the queues of a retry plan.
func plan(tb testing.TB, queue string, delays ...time.Duration) topology.Topology {
	tb.Helper()
	p, err := retry.New(retry.Config{Queue: queue, Policy: retry.Schedule(delays...), Source: &topology.Queue{}})
	if err != nil {
		tb.Fatal(err)
	}
	return p.Topology()
}

// orders has ten objects: a topic exchange, a retry plan, a queue with dead letters, and an audit stream.
func orders(tb testing.TB) topology.Topology {
	tb.Helper()
	return topology.Merge(plan(tb, "billing", 10*time.Second, time.Minute), topology.Topology{
		Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}, {Name: "dead", Type: topology.Fanout}},
		Queues: []topology.Queue{
			{Name: "shipping", DeliveryLimit: new(10), DeadLetter: &topology.DeadLetter{Exchange: "dead"}, SingleActiveConsumer: true},
			{Name: "dead-letters", DeliveryLimit: new(topology.Unlimited), MaxLength: 100_000},
			{Name: "audit", Type: topology.Stream, MaxAge: 7 * 24 * time.Hour},
			{Name: "hello"},
		},
		Bindings: []topology.Binding{
			{Source: "orders", Queue: "billing", Key: "order.paid"},
			{Source: "orders", Queue: "shipping", Key: "order.paid"},
			{Source: "orders", Queue: "shipping", Key: "order.cancelled"},
			{Source: "orders", Queue: "audit", Key: "#"},
			{Source: "dead", Queue: "dead-letters"},
		},
	})
}

// shop has about sixty objects: a topic exchange with 25 queues, several retry plans, and separate parts.
func shop(tb testing.TB) topology.Topology {
	tb.Helper()
	s := topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: "events", Type: topology.Topic, AlternateExchange: "unrouted"},
			{Name: "unrouted", Type: topology.Fanout},
			{Name: "dead", Type: topology.Direct},
			{Name: "images", Type: topology.Direct},
			{Name: "metrics", Type: "x-consistent-hash"},
			{Name: "notify", Type: topology.Headers},
		},
		Queues: []topology.Queue{
			{Name: "unrouted", MessageTTL: 24 * time.Hour},
			{Name: "dead.letters", DeliveryLimit: new(topology.Unlimited)},
			{Name: "images.resize", MaxLength: 1000, DeadLetter: &topology.DeadLetter{Exchange: "images", RoutingKey: "failed"}},
			{Name: "images.failed"},
			{Name: "notify.mail"},
			{Name: "notify.sms"},
			{Name: "notify.push", Type: topology.Classic, MaxPriority: 5},
		},
		Bindings: []topology.Binding{
			{Source: "unrouted", Queue: "unrouted"},
			{Source: "dead", Queue: "dead.letters", Key: "dead"},
			{Source: "images", Queue: "images.resize", Key: "uploaded"},
			{Source: "images", Queue: "images.failed", Key: "failed"},
			{Source: "notify", Queue: "notify.mail", Arguments: amqp.Table{"x-match": "any", "channel": "mail", "fallback": true}},
			{Source: "notify", Queue: "notify.sms", Arguments: amqp.Table{"channel": "sms"}},
			{Source: "notify", Queue: "notify.push", Arguments: amqp.Table{"channel": "push"}},
		},
	}
	services := []string{
		"billing", "shipping", "stock", "search", "pricing", "mailer", "invoices", "returns", "loyalty", "fraud", "reports", "ledger",
		"customers", "addresses", "vouchers", "subscriptions", "gifts", "reviews", "recommendations", "warehouse", "carriers", "taxes", "crm", "bi", "audit",
	}
	for i, name := range services {
		q := topology.Queue{Name: "events." + name}
		if i%3 == 0 {
			q.DeadLetter = &topology.DeadLetter{Exchange: "dead", RoutingKey: "dead"}
			q.DeliveryLimit = new(5)
		}
		s.Queues = append(s.Queues, q)
		keys := []string{"order.paid", "order.cancelled", "order.#", "customer.*.changed", "stock.low"}
		for k := range 1 + i%3 {
			s.Bindings = append(s.Bindings, topology.Binding{Source: "events", Queue: q.Name, Key: keys[(i+k)%len(keys)]})
		}
	}
	for i := range 4 {
		name := fmt.Sprintf("metrics.%d", i)
		s.Queues = append(s.Queues, topology.Queue{Name: name, SingleActiveConsumer: true})
		s.Bindings = append(s.Bindings, topology.Binding{Source: "metrics", Queue: name, Key: "1"})
	}
	s = topology.Merge(s, plan(tb, "exports", time.Minute, time.Hour, 24*time.Hour), plan(tb, "imports", time.Minute))
	return topology.Merge(s, topology.Queues("hello", "tasks", "rpc.quotes", "rpc.stock", "mail.out", "cleanup", "thumbnails"))
}

// awkward has cycles, a queue that dead-letters to itself, a long chain of exchanges, and names that break formats.
func awkward() topology.Topology {
	long := strings.Repeat("a.very.long.name.", 14)
	t := topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: "work", Type: topology.Direct},
			{Name: "retry", Type: topology.Direct},
			{Name: `quote"]; drop`, Type: topology.Topic},
			{Name: "</text><script>alert(1)</script>", Type: topology.Fanout, AlternateExchange: "work"},
			{Name: long + "x", Type: topology.Topic},
			{Name: "ring1", Type: topology.Fanout},
			{Name: "ring2", Type: topology.Fanout, AlternateExchange: "ring1"},
		},
		Queues: []topology.Queue{
			{Name: "work", DeadLetter: &topology.DeadLetter{Exchange: "retry", RoutingKey: "work"}, DeliveryLimit: new(topology.Unlimited)},
			{Name: "work.wait", MessageTTL: 30 * time.Second, DeadLetter: &topology.DeadLetter{Exchange: "work", RoutingKey: "work"}},
			{Name: "self", DeadLetter: &topology.DeadLetter{RoutingKey: "self"}, MaxLength: 10},
			{Name: "by-key", DeadLetter: &topology.DeadLetter{}, MessageTTL: time.Hour},
			{Name: "line\nbreak\ttab\x00nul"},
			{Name: "שלום \u202eevil"},
			{Name: "`code` & <b>", DeadLetter: &topology.DeadLetter{RoutingKey: "elsewhere"}},
			{Name: `back\slash\N"`},
			{Name: "队列 🐇🐇"},
			{Name: long},
			{Name: "hash #35; style:#1;"},
		},
		Bindings: []topology.Binding{
			{Source: "work", Queue: "work", Key: "work"},
			{Source: "retry", Queue: "work.wait", Key: "work"},
			{Source: "work", Queue: "by-key", Key: ""},
			{Source: `quote"]; drop`, Queue: "line\nbreak\ttab\x00nul", Key: "a\"b"},
			{Source: `quote"]; drop`, Queue: "שלום \u202eevil", Key: "*italic* _under_ #"},
			{Source: `quote"]; drop`, Queue: "`code` & <b>", Key: "<i>&amp;</i>"},
			{Source: "</text><script>alert(1)</script>", Queue: `back\slash\N"`},
			{Source: "</text><script>alert(1)</script>", Exchange: `quote"]; drop`},
			{Source: long + "x", Queue: long, Key: strings.Repeat("key.", 60)},
			{Source: "amq.topic", Queue: "队列 🐇🐇", Key: "- list"},
			{Source: "amq.topic", Queue: "hash #35; style:#1;", Key: "1. list"},
			{Source: "ring1", Exchange: "ring2"},
			{Source: "ring2", Exchange: "ring1"},
			{Source: "ring1", Exchange: "ring1", Key: "self"},
		},
	}
	for i := range 14 {
		t.Exchanges = append(t.Exchanges, topology.Exchange{Name: fmt.Sprintf("chain-%d", i), Type: topology.Topic})
		b := topology.Binding{Source: fmt.Sprintf("chain-%d", i), Exchange: fmt.Sprintf("chain-%d", i+1), Key: "#"}
		if i == 13 {
			b.Exchange, b.Queue = "", "chain-end"
		}
		t.Bindings = append(t.Bindings, b)
	}
	t.Queues = append(t.Queues, topology.Queue{Name: "chain-end", DeadLetter: &topology.DeadLetter{Exchange: "chain-2"}})
	return t
}

func pair() topology.Topology {
	return topology.Topology{
		Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}},
		Queues:    []topology.Queue{{Name: "billing"}},
		Bindings:  []topology.Binding{{Source: "orders", Queue: "billing", Key: "order.paid"}},
	}
}

package topology

import (
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/topology"
)

// A ring is a topology whose dead letters return to the queue that they left.
type ring struct {
	topo          topology.Topology
	exchange, key string     // where messages are published
	headers       amqp.Table // with which headers
	messages      int        // how many
	settle        string     // how a consumer of the queue "work" settles the first delivery of each: "", "reject", "requeue"
	left          int        // how many messages are left when those in the ring have been dropped
	nacks         bool       // the queue refuses some
	needs43       bool
}

const brief = 30 // milliseconds

// rings returns the topologies by the route on which messages return.
func rings(name func(string) string) map[string]ring {
	queue := func(q, exchange string, args amqp.Table) topology.Queue {
		a := amqp.Table{"x-dead-letter-exchange": exchange}
		for k, v := range args {
			a[k] = v
		}
		return topology.Queue{Name: name(q), Arguments: a}
	}
	classic := func(q topology.Queue) topology.Queue { q.Type = topology.Classic; return q }
	to := func(q string) amqp.Table { return amqp.Table{"x-dead-letter-routing-key": name(q)} }
	with := func(args ...amqp.Table) amqp.Table {
		all := amqp.Table{}
		for _, a := range args {
			for k, v := range a {
				all[k] = v
			}
		}
		return all
	}
	ttl := amqp.Table{"x-message-ttl": brief}
	wait := queue("wait", "", with(ttl, to("work")))
	exchange := func(x string, kind topology.ExchangeType) topology.Exchange {
		return topology.Exchange{Name: name(x), Type: kind}
	}
	return map[string]ring{
		"expiry, no routing key": {
			topo: topology.Topology{Queues: []topology.Queue{queue("work", "", ttl)}}, key: name("work"),
		},
		"expiry, no routing key, classic": {
			topo: topology.Topology{Queues: []topology.Queue{classic(queue("work", "", ttl))}}, key: name("work"),
		},
		"expiry, at least once": {
			topo: topology.Topology{Queues: []topology.Queue{queue("work", "", with(ttl, amqp.Table{
				"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
			}))}}, key: name("work"),
		},
		"rejected into a queue that keeps the routing key": {
			topo: topology.Topology{Queues: []topology.Queue{queue("work", "", to("wait")), queue("wait", "", ttl)}},
			key:  name("work"), settle: "reject",
		},
		"full": {
			topo: topology.Topology{Queues: []topology.Queue{queue("work", "", with(to("wait"), amqp.Table{"x-max-length": 1})), wait}},
			key:  name("work"), messages: 2, left: 1,
		},
		"full, in bytes, classic": {
			topo: topology.Topology{Queues: []topology.Queue{classic(queue("work", "", with(to("wait"), amqp.Table{"x-max-length-bytes": 1}))), wait}},
			key:  name("work"), messages: 2, left: 1,
		},
		"full, refused and dead-lettered": {
			topo: topology.Topology{Queues: []topology.Queue{
				classic(queue("work", "", with(to("wait"), amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish-dlx"}))), wait,
			}},
			key: name("work"), messages: 2, left: 1, nacks: true,
		},
		"delivery limit": {
			topo: topology.Topology{Queues: []topology.Queue{queue("work", "", with(to("wait"), amqp.Table{"x-delivery-limit": 0})), wait}},
			key:  name("work"), settle: "requeue",
		},
		"direct exchange, the key of the binding": {
			topo: topology.Topology{
				Exchanges: []topology.Exchange{exchange("in", topology.Direct)},
				Queues:    []topology.Queue{queue("work", name("in"), ttl)},
				Bindings:  []topology.Binding{{Source: name("in"), Queue: name("work"), Key: "order"}},
			},
			exchange: name("in"), key: "order",
		},
		"topic exchanges, two queues": {
			topo: topology.Topology{
				Exchanges: []topology.Exchange{exchange("in", topology.Topic), exchange("again", topology.Topic)},
				Queues:    []topology.Queue{queue("work", name("again"), ttl), queue("wait", name("in"), ttl)},
				Bindings: []topology.Binding{
					{Source: name("in"), Queue: name("work"), Key: "order.*.#"}, {Source: name("again"), Queue: name("wait"), Key: "order.#"},
				},
			},
			exchange: name("in"), key: "order.paid",
		},
		"headers exchange": {
			topo: topology.Topology{
				Exchanges: []topology.Exchange{exchange("in", topology.Headers)},
				Queues:    []topology.Queue{queue("work", name("in"), with(ttl, amqp.Table{"x-dead-letter-routing-key": "any"}))},
				Bindings:  []topology.Binding{{Source: name("in"), Queue: name("work"), Arguments: amqp.Table{"x-match": "all", "kind": "order"}}},
			},
			exchange: name("in"), headers: amqp.Table{"kind": "order"},
		},
		"exchange to exchange": {
			topo: topology.Topology{
				Exchanges: []topology.Exchange{exchange("in", topology.Topic), exchange("all", topology.Fanout)},
				Queues:    []topology.Queue{queue("work", name("in"), ttl)},
				Bindings: []topology.Binding{
					{Source: name("in"), Exchange: name("all"), Key: "order.*"}, {Source: name("all"), Queue: name("work")},
				},
			},
			exchange: name("in"), key: "order.paid",
		},
		"alternate exchange": {
			topo: topology.Topology{
				Exchanges: []topology.Exchange{
					{Name: name("in"), Type: topology.Direct, AlternateExchange: name("unrouted")}, exchange("unrouted", topology.Fanout),
				},
				Queues:   []topology.Queue{queue("work", name("in"), ttl)},
				Bindings: []topology.Binding{{Source: name("unrouted"), Queue: name("work")}},
			},
			exchange: name("in"), key: "order",
		},
		"local random exchange": {
			topo: topology.Topology{
				Exchanges: []topology.Exchange{exchange("in", "x-local-random")},
				Queues:    []topology.Queue{classic(queue("work", name("in"), ttl))},
				Bindings:  []topology.Binding{{Source: name("in"), Queue: name("work")}},
			},
			exchange: name("in"),
		},
		"modulus hash exchange": {
			needs43: true,
			topo: topology.Topology{
				Exchanges: []topology.Exchange{exchange("in", "x-modulus-hash")},
				Queues:    []topology.Queue{queue("work", name("in"), ttl)},
				Bindings:  []topology.Binding{{Source: name("in"), Queue: name("work")}},
			},
			exchange: name("in"), key: "order",
		},
	}
}

// declareUnchecked declares topo without the toolkit's checks.
func declareUnchecked(t *testing.T, topo topology.Topology) {
	t.Helper()
	ch := kit.RawChannel(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kit.DeleteAfter(t, topo)
	for _, x := range topo.Exchanges {
		args := amqp.Table{}
		if x.AlternateExchange != "" {
			args["alternate-exchange"] = x.AlternateExchange
		}
		must(ch.ExchangeDeclare(x.Name, string(x.Type), true, false, false, false, args))
	}
	for _, q := range topo.Queues {
		args := amqp.Table{"x-queue-type": "quorum"}
		if q.Type != "" {
			args["x-queue-type"] = string(q.Type)
		}
		for k, v := range q.Arguments {
			args[k] = v
		}
		_, err := ch.QueueDeclare(q.Name, true, false, false, false, args)
		must(err)
	}
	for _, b := range topo.Bindings {
		if b.Exchange != "" {
			must(ch.ExchangeBind(b.Exchange, b.Key, b.Source, false, b.Arguments))
		} else {
			must(ch.QueueBind(b.Queue, b.Key, b.Source, false, b.Arguments))
		}
	}
}

// RabbitMQ drops confirmed messages in each of these rings, and the lint refuses each.
func TestS74RingsInWhichRabbitMQDropsMessagesAreRefused(t *testing.T) {
	for why := range rings(func(string) string { return "" }) {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			r := rings(kit.Prefixed(t))[why]
			if r.needs43 {
				kit.Needs43(t)
			}
			var wrong *amqperr.FieldError
			if err := r.topo.Validate(); !errors.As(err, &wrong) || !strings.Contains(wrong.Problem, "messages circle through") || wrong.Fix == "" {
				t.Errorf("Validate = %v, want a FieldError that shows the ring", err)
			}
			declareUnchecked(t, r.topo)
			ch := kit.RawChannel(t)
			deliveries := enter(t, ch, r)
			if r.settle != "" {
				if err := kit.Receive(t, deliveries, "delivery").Reject(r.settle == "requeue"); err != nil {
					t.Fatal(err)
				}
			}
			// A message on its way from one queue to the next is in neither for a moment.
			var since time.Time
			kit.WaitFor(t, func() bool {
				n := 0
				for _, q := range r.topo.Queues {
					held, err := ch.QueueDeclarePassive(q.Name, false, false, false, false, nil)
					if err != nil {
						t.Fatal(err)
					}
					n += held.Messages
				}
				if n != r.left {
					since = time.Time{}
				} else if since.IsZero() {
					since = time.Now()
				}
				return n == r.left && time.Since(since) > 5*brief*time.Millisecond
			})
			if len(deliveries) > 0 {
				t.Error("the consumer got the message again")
			}
		})
	}
}

// enter publishes the ring's messages, and consumes from its first queue if settle is set.
func enter(t *testing.T, ch *amqp.Channel, r ring) <-chan amqp.Delivery {
	t.Helper()
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	returned := ch.NotifyReturn(make(chan amqp.Return, 1))
	for sent := 0; sent < max(r.messages, 1); {
		c, err := ch.PublishWithDeferredConfirm(r.exchange, r.key, true, false, amqp.Publishing{Headers: r.headers, Body: []byte("m")})
		if err != nil {
			t.Fatal(err)
		}
		if confirmed := c.Wait(); !confirmed && !r.nacks {
			t.Error("a message was not confirmed")
		}
		select {
		case <-returned: // RabbitMQ 4.3 routes by a new binding a moment after it has confirmed it
		default:
			sent++
		}
	}
	if r.settle == "" {
		return nil
	}
	deliveries, err := ch.Consume(r.topo.Queues[0].Name, "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return deliveries
}

// The usual pairs of a work queue and a wait queue pass, and a rejected message goes round them.
func TestS74RingsThatARejectionStartsAreNotRefused(t *testing.T) {
	work := func(name func(string) string, exchange, key string) topology.Queue {
		return topology.Queue{Name: name("work"), DeadLetter: &topology.DeadLetter{Exchange: exchange, RoutingKey: key}}
	}
	wait := func(name func(string) string, exchange, key string) topology.Queue {
		return topology.Queue{Name: name("wait"), MessageTTL: brief * time.Millisecond, DeadLetter: &topology.DeadLetter{Exchange: exchange, RoutingKey: key}}
	}
	for why, pair := range map[string]func(name func(string) string) ring{
		"by name": func(name func(string) string) ring {
			return ring{topo: topology.Topology{Queues: []topology.Queue{work(name, "", name("wait")), wait(name, "", name("work"))}}, key: name("work")}
		},
		"bounded": func(name func(string) string) ring {
			q := work(name, "", name("wait"))
			q.MaxLength, q.Overflow, q.DeliveryLimit = 10, topology.RejectPublish, new(topology.Unlimited)
			return ring{topo: topology.Topology{Queues: []topology.Queue{q, wait(name, "", name("work"))}}, key: name("work")}
		},
		"the work queue's key is kept": func(name func(string) string) ring {
			return ring{topo: topology.Topology{
				Exchanges: []topology.Exchange{{Name: name("retry"), Type: topology.Fanout}},
				Queues:    []topology.Queue{work(name, name("retry"), ""), wait(name, "", "")},
				Bindings:  []topology.Binding{{Source: name("retry"), Queue: name("wait")}},
			}, key: name("work")}
		},
		"the publisher's key is kept": func(name func(string) string) ring {
			return ring{topo: topology.Topology{
				Exchanges: []topology.Exchange{{Name: name("orders"), Type: topology.Topic}, {Name: name("retry"), Type: topology.Topic}},
				Queues:    []topology.Queue{work(name, name("retry"), ""), wait(name, name("orders"), "")},
				Bindings:  []topology.Binding{{Source: name("orders"), Queue: name("work"), Key: "order.#"}, {Source: name("retry"), Queue: name("wait"), Key: "#"}},
			}, exchange: name("orders"), key: "order.paid"}
		},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			r := pair(kit.Prefixed(t))
			r.settle = "reject"
			kit.Declared(t, kit.DialRaw(t), r.topo)
			ch := kit.RawChannel(t)
			deliveries := enter(t, ch, r)
			for range 3 {
				if err := kit.Receive(t, deliveries, "delivery").Reject(false); err != nil {
					t.Fatal(err)
				}
			}
			if err := kit.Receive(t, deliveries, "delivery").Ack(false); err != nil {
				t.Fatal(err)
			}
		})
	}
}

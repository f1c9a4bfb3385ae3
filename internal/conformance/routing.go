package conformance

import (
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A router publishes to exchanges and writes the queues that received each message.
type router struct {
	s      *Script
	ch     *Channel // in confirm mode
	queues []string
}

// router declares the queues and returns a router for them.
func (s *Script) router(queues ...string) *router {
	s.tb.Helper()
	r := &router{s: s, ch: s.Channel()}
	for _, name := range queues {
		r.queues = append(r.queues, r.ch.Queue(name, "classic", nil))
	}
	s.Must(r.ch.Confirm(false))
	return r
}

// bind binds a queue of the router. It declares the queue if the router does not have it yet.
func (r *router) bind(queue, key, exchange string, args amqp.Table) {
	r.s.tb.Helper()
	for _, q := range r.queues {
		if q == queue+r.s.suffix {
			r.s.Must(r.ch.QueueBind(q, key, exchange, false, args))
			return
		}
	}
	q := r.ch.Queue(queue, "classic", nil)
	r.queues = append(r.queues, q)
	r.s.Must(r.ch.QueueBind(q, key, exchange, false, args))
}

// send publishes a mandatory message and writes the queues that received it.
func (r *router) send(exchange, key string, headers amqp.Table) {
	r.s.tb.Helper()
	what := fmt.Sprintf("key %q", key)
	if headers != nil {
		what += ", headers " + value(headers)
	}
	r.s.Note("%s: %s", what, r.publish(exchange, key, headers))
}

func (r *router) publish(exchange, key string, headers amqp.Table) string {
	r.s.tb.Helper()
	r.ch.Publish(exchange, key, amqp.Publishing{Headers: headers})
	came := "into no queue"
	for e := r.ch.event(); !strings.HasPrefix(e, "ack of "); e = r.ch.event() {
		came, _, _ = strings.Cut(e, ",")
	}
	var to []string
	for _, q := range r.queues {
		for {
			_, ok, err := r.ch.Channel.Get(q, true)
			r.s.Must(err)
			if !ok {
				break
			}
			to = append(to, strings.TrimSuffix(q, r.s.suffix))
		}
	}
	if to == nil {
		return came
	}
	return "into " + strings.Join(to, " and ")
}

var routing = []Scenario{
	{"direct-exchange", func(s *Script) {
		r := s.router()
		x := r.ch.Exchange("direct", "direct", nil)
		r.bind("a", "k", x, nil)
		r.bind("b", "k", x, nil)
		r.bind("b", "other", x, nil)
		r.bind("none", "", x, nil)
		for _, key := range []string{"k", "other", "K", "", "*", "#", "k.other"} {
			r.send(x, key, nil)
		}
		long := strings.Repeat("k", 255)
		r.bind("a", long, x, nil)
		s.Note("a key of 255 bytes: %s", r.publish(x, long, nil))
	}},
	{"default-exchange", func(s *Script) {
		r := s.router("a")
		r.send("", r.queues[0], nil)
		r.send("", "", nil)
		s.Title("what it refuses")
		s.Try("bind a queue", func(ch *Channel) error { return ch.QueueBind(r.queues[0], "k", "", false, nil) })
		s.Try("unbind a queue", func(ch *Channel) error { return ch.QueueUnbind(r.queues[0], r.queues[0], "", nil) })
		s.Try("bind an exchange to it", func(ch *Channel) error { return ch.ExchangeBind("amq.fanout", "k", "", false, nil) })
		s.Try("bind it to an exchange", func(ch *Channel) error { return ch.ExchangeBind("", "k", "amq.fanout", false, nil) })
		s.Try("declare", func(ch *Channel) error { return ch.ExchangeDeclare("", "direct", true, false, false, false, nil) })
		s.Try("declare passively", func(ch *Channel) error {
			return ch.ExchangeDeclarePassive("", "direct", true, false, false, false, nil)
		})
		s.Try("delete", func(ch *Channel) error { return ch.ExchangeDelete("", false, false) })
	}},
	{"fanout-exchange", func(s *Script) {
		r := s.router("unbound")
		x := r.ch.Exchange("fanout", "fanout", nil)
		r.send(x, "k", nil)
		r.bind("a", "a", x, nil)
		r.bind("b", "b", x, amqp.Table{"n": 1})
		for _, key := range []string{"a", "", "other"} {
			r.send(x, key, nil)
		}
	}},
	{"topic-exchange", func(s *Script) {
		r := s.router()
		x := r.ch.Exchange("topic", "topic", nil)
		for _, pattern := range []string{
			"", "#", "*", "*.*", "#.#", "a.*", "*.b", "a.#", "#.b", "a.#.b", "a.*.b", "#.a.#", "*.#", "#.*", "*.#.*", "a..b", "a.*.#", "a*", "A.b",
		} {
			r.bind(fmt.Sprintf("%q", pattern), pattern, x, nil)
		}
		for _, key := range []string{"", "a", "b", "a.b", "a.", ".", "..", ".b", "a..b", "a.x.b", "a.b.b", "a.x.y.b", "x.a.y", "ab", "*", "#", "a.#"} {
			r.send(x, key, nil)
		}
		s.Title("patterns that are refused")
		for _, pattern := range []string{"#.#.#", "a.#.b.#.c.#"} {
			s.Try(pattern, func(ch *Channel) error { return ch.QueueBind(r.queues[0], pattern, x, false, nil) })
		}
	}},
	{"a-queue-gets-a-message-once", func(s *Script) {
		r := s.router()
		topic, fanout := r.ch.Exchange("topic", "topic", nil), r.ch.Exchange("fanout", "fanout", nil)
		for _, key := range []string{"#", "a.*", "a.b"} {
			r.bind("a", key, topic, nil)
		}
		r.bind("b", "a.b", topic, nil)
		r.bind("a", "", fanout, nil)
		r.bind("b", "", fanout, nil)
		s.Must(r.ch.ExchangeBind(fanout, "a.b", topic, false, nil))
		s.Must(r.ch.ExchangeBind(fanout, "#", topic, false, nil))
		r.send(topic, "a.b", nil)
		r.send(topic, "c", nil)
		r.send(topic, "a.b", amqp.Table{"CC": []any{"a.c", "a.b"}})
	}},
	{"refused-publishes", func(s *Script) {
		r := s.router()
		fanout, internal := r.ch.Exchange("fanout", "fanout", nil), s.Name("internal")
		s.Must(r.ch.ExchangeDeclare(internal, "fanout", true, false, true, false, nil))
		s.Must(r.ch.ExchangeBind(internal, "", fanout, false, nil))
		r.bind("q", "", internal, nil)
		r.send(fanout, "k", nil)
		for _, x := range []string{internal, "amq.rabbitmq.trace", s.Name("missing")} {
			s.Try("publish to "+x, func(ch *Channel) error {
				return ch.PublishWithContext(s.ctx, x, "k", false, false, amqp.Publishing{})
			})
		}
		s.Try("publish immediate", func(ch *Channel) error {
			return ch.PublishWithContext(s.ctx, fanout, "k", false, true, amqp.Publishing{})
		})
	}},
}

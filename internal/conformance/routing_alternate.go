package conformance

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

var alternates = []Scenario{
	{"alternate-exchange", func(s *Script) {
		r := s.router()
		last := r.ch.Exchange("last", "fanout", nil)
		next := r.ch.Exchange("next", "direct", amqp.Table{"alternate-exchange": last})
		x := r.ch.Exchange("first", "direct", amqp.Table{"alternate-exchange": next})
		r.bind("of first", "1", x, nil)
		r.bind("of next", "1", next, nil)
		r.bind("of next", "2", next, nil)
		r.send(x, "1", nil)
		r.send(x, "2", nil)
		r.send(x, "3", nil)
		r.bind("of last", "", last, nil)
		r.send(x, "3", nil)
		s.Title("one key of several has a binding")
		r.send(x, "1", amqp.Table{"CC": []any{"2"}})
		s.Title("the exchange's binding leads to an exchange that routes it nowhere")
		empty := r.ch.Exchange("empty", "fanout", nil)
		s.Must(r.ch.ExchangeBind(empty, "4", x, false, nil))
		r.send(x, "4", nil)
		s.Title("the alternate is gone")
		s.Must(r.ch.ExchangeDelete(next, false, false))
		r.send(x, "2", nil)
	}},
	{"alternate-exchanges-in-a-cycle", func(s *Script) {
		r := s.router()
		a, b := s.Name("a"), s.Name("b")
		s.Must(r.ch.ExchangeDeclare(a, "direct", true, false, false, false, amqp.Table{"alternate-exchange": b}))
		s.Must(r.ch.ExchangeDeclare(b, "direct", true, false, false, false, amqp.Table{"alternate-exchange": a}))
		r.bind("q", "k", a, nil)
		r.send(b, "k", nil)
		r.send(b, "other", nil)
	}},
	{"alternate-exchange-of-internal-exchange", func(s *Script) {
		r := s.router()
		rest := s.Name("rest")
		s.Must(r.ch.ExchangeDeclare(rest, "fanout", true, false, true, false, nil))
		x := r.ch.Exchange("x", "headers", amqp.Table{"alternate-exchange": rest})
		r.bind("rest", "", rest, nil)
		r.send(x, "k", amqp.Table{"a": 1})
	}},
	{"alternate-exchange-is-checked", func(s *Script) {
		for i, v := range []any{"", 1, nil, true, []byte("amq.fanout")} {
			s.Try("alternate-exchange "+value(v), func(ch *Channel) error {
				return ch.ExchangeDeclare(s.Name(fmt.Sprint("x", i)), "direct", true, false, false, false, amqp.Table{"alternate-exchange": v})
			})
		}
	}},
	{"further-routing-keys-in-headers", func(s *Script) {
		r := s.router("a", "b", "c")
		x := r.ch.Exchange("x", "topic", nil)
		for _, q := range []string{"a", "b", "c"} {
			r.bind(q, q+".#", x, nil)
		}
		r.send(x, "a", amqp.Table{"CC": []any{"b", "c.d"}})
		r.send(x, "a", amqp.Table{"BCC": []any{"b"}})
		r.send(x, "a", amqp.Table{"CC": []any{"b"}, "BCC": []any{"c"}})
		r.send(x, "z", amqp.Table{"CC": []any{"b", "b", "y"}})
		r.send(x, "z", amqp.Table{"CC": []any{}})
		r.send(x, "a", amqp.Table{"cc": []any{"b"}})
		s.Title("what the recipients see")
		r.ch.Publish(x, "a", amqp.Publishing{Headers: amqp.Table{"CC": []any{"b"}, "BCC": []any{"c"}, "own": "h"}})
		r.ch.Event()
		for _, q := range r.queues {
			r.ch.Get(q)
		}
		s.Title("BCC alone")
		r.ch.Publish(x, "a", amqp.Publishing{Headers: amqp.Table{"BCC": []any{"c"}}})
		r.ch.Event()
		r.ch.Get(r.queues[2])
		s.Title("the default exchange, too")
		r.ch.Publish("", r.queues[0], amqp.Publishing{Headers: amqp.Table{"CC": []any{r.queues[1], s.Name("missing")}}, Body: []byte("m")})
		r.ch.Event()
		for _, q := range r.queues[:2] {
			d, _, err := r.ch.Channel.Get(q, true)
			s.Must(err)
			s.Note("%s", message(d))
		}
	}},
	{"further-routing-keys-are-checked", func(s *Script) {
		for _, v := range []any{"k", 1, nil, amqp.Table{}, []any{1}, []any{"k", true}} {
			for _, name := range []string{"CC", "BCC"} {
				s.Try(name+" "+value(v), func(ch *Channel) error {
					return ch.PublishWithContext(s.ctx, "amq.fanout", "k", false, false, amqp.Publishing{Headers: amqp.Table{name: v}})
				})
			}
		}
	}},
}

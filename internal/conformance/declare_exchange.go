package conformance

import amqp "github.com/rabbitmq/amqp091-go"

// Scenarios about declaring and deleting exchanges.
var exchangeDeclarations = []Scenario{
	{"exchange-types", func(s *Script) {
		x := s.Name("x")
		for _, kind := range []string{"direct", "fanout", "topic", "headers", "", "nope", "Direct", "x-delayed-message", "x-consistent-hash"} {
			s.Try(value(kind), func(ch *Channel) error {
				err := ch.ExchangeDeclare(x, kind, true, false, false, false, nil)
				if err == nil {
					err = ch.ExchangeDelete(x, false, false)
				}
				return err
			})
		}
		s.Try("unknown type for one that is there", func(ch *Channel) error {
			return ch.ExchangeDeclare("amq.direct", "nope", true, false, false, false, nil)
		})
		s.Try("no type, passive", func(ch *Channel) error {
			return ch.ExchangeDeclarePassive("amq.direct", "", false, true, true, false, amqp.Table{"alternate-exchange": 1})
		})
	}},
	{"predeclared-exchanges", func(s *Script) {
		for _, x := range []struct{ name, kind string }{
			{"amq.direct", "direct"},
			{"amq.fanout", "fanout"},
			{"amq.topic", "topic"},
			{"amq.headers", "headers"},
			{"amq.match", "headers"},
		} {
			s.Try(x.name, func(ch *Channel) error { return ch.ExchangeDeclare(x.name, x.kind, true, false, false, false, nil) })
		}
		s.Try("amq.rabbitmq.trace, internal", func(ch *Channel) error {
			return ch.ExchangeDeclare("amq.rabbitmq.trace", "topic", true, false, true, false, nil)
		})
		for _, x := range []string{"amq.rabbitmq.log", "amq.rabbitmq.event"} {
			s.Try(x+", passive", func(ch *Channel) error { return ch.ExchangeDeclarePassive(x, "topic", true, false, true, false, nil) })
		}
		s.Try("another type", func(ch *Channel) error {
			return ch.ExchangeDeclare("amq.direct", "fanout", true, false, false, false, nil)
		})
		s.Try("a new amq.", func(ch *Channel) error {
			return ch.ExchangeDeclare("amq.foo", "direct", true, false, false, false, nil)
		})
		s.Try("passive, missing", func(ch *Channel) error {
			return ch.ExchangeDeclarePassive("amq.foo", "direct", true, false, false, false, nil)
		})
		s.Try("delete", func(ch *Channel) error { return ch.ExchangeDelete("amq.fanout", false, false) })
		s.Try("delete if unused", func(ch *Channel) error { return ch.ExchangeDelete("amq.fanout", true, false) })
		s.Try("delete a missing one", func(ch *Channel) error { return ch.ExchangeDelete("amq.foo", false, false) })
	}},
	{"default-exchange-is-protected", func(s *Script) {
		q := s.Channel().Queue("work", "classic", nil)
		for _, f := range []struct {
			what string
			act  func(ch *Channel) error
		}{
			{"declare", func(ch *Channel) error { return ch.ExchangeDeclare("", "direct", true, false, false, false, nil) }},
			{"declare with an unknown type", func(ch *Channel) error { return ch.ExchangeDeclare("", "nope", true, false, false, false, nil) }},
			{"declare passive", func(ch *Channel) error {
				return ch.ExchangeDeclarePassive("", "direct", true, false, false, false, nil)
			}},
			{"delete", func(ch *Channel) error { return ch.ExchangeDelete("", false, false) }},
			{"bind a queue", func(ch *Channel) error { return ch.QueueBind(q, "k", "", false, nil) }},
			{"unbind a queue", func(ch *Channel) error { return ch.QueueUnbind(q, q, "", nil) }},
			{"bind it to an exchange", func(ch *Channel) error { return ch.ExchangeBind("", "k", "amq.direct", false, nil) }},
			{"bind an exchange to it", func(ch *Channel) error { return ch.ExchangeBind("amq.direct", "k", "", false, nil) }},
			{"unbind an exchange", func(ch *Channel) error { return ch.ExchangeUnbind("amq.direct", "k", "", false, nil) }},
		} {
			s.Try(f.what, f.act)
		}
	}},
	{"exchange-delete-removes-its-bindings", func(s *Script) {
		ch := s.Channel()
		q, x := ch.Queue("work", "classic", nil), ch.Exchange("x", "fanout", nil)
		s.Must(ch.QueueBind(q, "", x, false, nil))
		s.Try("if unused", func(ch *Channel) error { return ch.ExchangeDelete(x, true, false) })
		s.Try("though used", func(ch *Channel) error { return ch.ExchangeDelete(x, false, false) })
		s.Must(ch.ExchangeDeclare(x, "fanout", true, false, false, false, nil))
		ch.Publish(x, "", amqp.Publishing{Body: []byte("m")})
		ch.Event()
	}},
	{"auto-delete-exchange-without-bindings", func(s *Script) {
		ch := s.Channel()
		q, x := ch.Queue("work", "classic", nil), s.Name("x")
		s.Must(ch.ExchangeDeclare(x, "fanout", true, true, false, false, nil))
		ch.Publish(x, "", amqp.Publishing{Body: []byte("m")})
		ch.Event()
		s.Must(ch.QueueUnbind(q, "", x, nil))
		s.Must(ch.ExchangeDeclarePassive(x, "fanout", true, true, false, false, nil))
		ch.State()
	}},
}

package conformance

import amqp "github.com/rabbitmq/amqp091-go"

var basics = []Scenario{
	{"get-takes-messages-one-by-one", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "a", "b")
			d := ch.Get(q)
			s.Must(d.Ack(false))
			s.Must(ch.Get(q).Ack(false))
			ch.Get(q)
			s.Holds(q, 0)
		}
	}},
	{"unknown-delivery-tag", func(s *Script) {
		s.Try("ack of a tag that was never delivered", func(ch *Channel) error { return ch.Ack(77, false) })
		s.Try("ack twice", func(ch *Channel) error {
			q := ch.Queue("work", "quorum", nil)
			ch.Store(q, "m")
			d := ch.Get(q)
			s.Must(d.Ack(false))
			return d.Ack(false)
		})
	}},
	{"unroutable-messages-are-returned-before-their-confirm", func(s *Script) {
		ch := s.Channel()
		s.Must(ch.Confirm(false))
		for range 3 {
			ch.Publish("", s.suffix, amqp.Publishing{Body: []byte("m"), MessageId: "id"})
			ch.Event()
			ch.Event()
		}
		ch.State()
	}},
}

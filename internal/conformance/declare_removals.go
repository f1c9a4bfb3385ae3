package conformance

import amqp "github.com/rabbitmq/amqp091-go"

// Scenarios about queue.delete, queue.purge and no-wait.
var queueRemovals = []Scenario{
	{"queue-delete", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "a", "b", "c")
			d := ch.Get(q)
			n, err := ch.QueueDelete(q, false, false, false)
			s.Must(err)
			s.Note("deleted, %d ready", n)
			s.Must(d.Ack(false))
			ch.State()
			n, err = ch.QueueDelete(q, false, false, false)
			s.Must(err)
			s.Note("deleted once more, %d ready", n)
			n, err = ch.QueueDelete(q, true, true, false)
			s.Must(err)
			s.Note("and if unused and empty, %d ready", n)
			s.Counts(ch.QueueDeclare(q, true, false, false, false, amqp.Table{"x-queue-type": kind}))
		}
	}},
	{"queue-delete-if-unused-and-if-empty", func(s *Script) {
		const consumer, message, delivered = 1, 2, 4
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := s.Name(kind)
			for _, f := range []struct {
				what              string
				has               int
				ifUnused, ifEmpty bool
			}{
				{"if unused, with a consumer", consumer, true, false},
				{"if unused, with a message", message, true, false},
				{"if empty, with a consumer", consumer, false, true},
				{"if empty, with a message", message, false, true},
				{"if empty, with a message that was delivered", delivered, false, true},
				{"if unused and empty, with both", consumer | message, true, true},
				{"if unused and empty, with nothing", 0, true, true},
			} {
				ch := s.Channel()
				_, err := ch.QueueDeclare(q, true, false, false, false, amqp.Table{"x-queue-type": kind})
				s.Must(err)
				if f.has&(message|delivered) != 0 {
					ch.Store(q, "m")
				}
				if f.has&delivered != 0 {
					_, _, err := ch.Channel.Get(q, false)
					s.Must(err)
				}
				if f.has&consumer != 0 {
					s.Must(ch.Qos(1, 0, false))
					if f.has&message != 0 {
						ch.Store(q, "one to be delivered")
					}
					ch.Subscribe(q, "c of "+f.what)
				}
				s.Try(f.what, func(ch *Channel) error {
					_, err := ch.QueueDelete(q, f.ifUnused, f.ifEmpty, false)
					return err
				})
				_, err = ch.QueueDelete(q, false, false, false)
				s.Must(err)
			}
		}
	}},
	{"queue-purge", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "a", "b", "c")
			d := ch.Get(q)
			purge := func() {
				n, err := ch.QueuePurge(q, false)
				s.Must(err)
				s.Note("purged %d", n)
			}
			purge()
			purge()
			s.Must(d.Nack(false, true))
			s.Holds(q, 1)
			ch.Get(q)
		}
		s.Title("no such queue")
		missing := s.Name("missing")
		s.Try("purge", func(ch *Channel) error { _, err := ch.QueuePurge(missing, false); return err })
		s.Try("purge, no-wait", func(ch *Channel) error { _, err := ch.QueuePurge(missing, true); return err })
	}},
	{"no-wait", func(s *Script) {
		const kind = "quorum"
		ch := s.Channel()
		q, x, to := s.Name("queue"), s.Name("exchange"), s.Name("other-exchange")
		args := amqp.Table{"x-queue-type": kind}
		_, err := ch.QueueDeclare(q, true, false, false, true, args)
		s.Must(err)
		s.Must(ch.ExchangeDeclare(x, "fanout", true, false, false, true, nil))
		s.Must(ch.ExchangeDeclare(to, "fanout", true, false, false, true, nil))
		s.Must(ch.ExchangeBind(to, "", x, true, nil))
		s.Must(ch.QueueBind(q, "", to, true, nil))
		s.Must(ch.Confirm(false)) // not with no-wait: amqp091-go would wait for an answer that the broker does not send
		ch.Publish(x, "", amqp.Publishing{Body: []byte("m")})
		ch.Event()
		s.Counts(ch.QueueDeclarePassive(q, true, false, false, false, nil))
		_, err = ch.QueuePurge(q, true)
		s.Must(err)
		s.Counts(ch.QueueDeclarePassive(q, true, false, false, false, nil))
		s.Must(ch.ExchangeUnbind(to, "", x, true, nil))
		ch.Publish(x, "", amqp.Publishing{Body: []byte("m")})
		ch.Event()
		ch.Event()
		s.Must(ch.ExchangeDelete(x, false, true))
		_, err = ch.QueueDelete(q, false, false, true)
		s.Must(err)
		ch.State()

		s.Title("errors are reported nevertheless")
		q = ch.Queue("queue", kind, nil)
		missing := s.Name("missing")
		for _, f := range []struct {
			what string
			act  func(ch *Channel) error
		}{
			{"queue.declare", func(ch *Channel) error { _, err := ch.QueueDeclare(q, false, false, false, true, args); return err }},
			{"queue.bind", func(ch *Channel) error { return ch.QueueBind(q, "", missing, true, nil) }},
			{"queue.purge", func(ch *Channel) error { _, err := ch.QueuePurge(missing, true); return err }},
			{"queue.delete", func(ch *Channel) error { _, err := ch.QueueDelete(q, true, false, true); return err }},
			{"exchange.declare", func(ch *Channel) error { return ch.ExchangeDeclare(to, "topic", true, false, false, true, nil) }},
			{"exchange.declare, passive", func(ch *Channel) error { return ch.ExchangeDeclarePassive(missing, "", true, false, false, true, nil) }},
			{"exchange.bind", func(ch *Channel) error { return ch.ExchangeBind(missing, "", to, true, nil) }},
			{"exchange.delete", func(ch *Channel) error { return ch.ExchangeDelete("amq.direct", false, true) }},
			{"basic.consume", func(ch *Channel) error {
				_, err := ch.Consume(missing, "c", false, false, false, true, nil)
				return err
			}},
		} {
			s.Try(f.what, f.act)
		}
	}},
}

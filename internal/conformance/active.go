package conformance

import amqp "github.com/rabbitmq/amqp091-go"

var singleActive = []Scenario{
	{"the-next-consumer-takes-over-when-the-active-one-is-lost", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			first, second := s.Channel(), s.Channel()
			q := first.Queue(kind, kind, single)
			s.Must(first.Qos(1, 0, false))
			a := first.Subscribe(q, "a")
			b := second.Subscribe(q, "b")
			second.Store(q, "1", "2")
			a.Next()
			s.Holds(q, 1) // b is not active
			first.conn.Cut()
			s.Must(b.Next().Ack(false))
			s.Must(b.Next().Ack(false))
			s.Holds(q, 0)
		}
	}},
	{"a-cancelled-active-consumer-keeps-its-deliveries", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			first, second := s.Channel(), s.Channel()
			q := first.Queue(kind, kind, single)
			s.Must(first.Qos(1, 0, false))
			a := first.Subscribe(q, "a")
			b := second.Subscribe(q, "b")
			second.Store(q, "1", "2")
			d := a.Next()
			s.Holds(q, 1)
			s.Must(first.Cancel("a", false))
			b.Next() // out of order: the first message is not settled yet
			s.Must(nackRequeue(d))
			b.Next()
		}
	}},
	{"cancelling-a-waiting-consumer-changes-nothing", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			first, second := s.Channel(), s.Channel()
			q := first.Queue(kind, kind, single)
			a := first.Subscribe(q, "a")
			second.Subscribe(q, "b")
			s.Must(second.Cancel("b", false))
			second.Store(q, "1")
			s.Must(a.Next().Ack(false))
		}
	}},
	{"a-consumer-that-subscribes-again-waits-at-the-end", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, single)
			ch.Subscribe(q, "a")
			b := ch.Subscribe(q, "b")
			c := ch.Subscribe(q, "c")
			s.Must(ch.Cancel("a", false))
			a := ch.Subscribe(q, "a")
			for _, x := range []*Consumer{b, c, a} {
				ch.Store(q, "for "+x.tag)
				s.Must(x.Next().Ack(false))
				s.Must(ch.Cancel(x.tag, false))
			}
		}
	}},
	{"basic-get-with-a-single-active-consumer", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, single)
			ch.Store(q, "1", "2")
			s.Must(ch.Qos(1, 0, false))
			ch.Subscribe(q, "a").Next()
			s.Holds(q, 1)
			s.Channel().Get(q)
		}
	}},
	{"a-higher-priority-takes-over-a-quorum-queue", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("quorum", "quorum", single)
		s.Must(ch.Qos(1, 0, false))
		low := ch.Subscribe(q, "low")
		ch.Store(q, "1", "2")
		d := low.Next()
		high := ch.SubscribeWith(q, "high", amqp.Table{"x-priority": 1})
		s.Holds(q, 1) // until low has settled its delivery
		s.Must(d.Ack(false))
		s.Must(high.Next().Ack(false))

		s.Title("and gives way when it ends")
		s.Must(ch.Cancel("high", false))
		ch.Store(q, "3")
		s.Must(low.Next().Ack(false))
	}},
	{"a-higher-priority-waits-at-a-classic-queue", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("classic", "classic", single)
		low := ch.Subscribe(q, "low")
		high := ch.SubscribeWith(q, "high", amqp.Table{"x-priority": 1})
		ch.Store(q, "1")
		s.Must(low.Next().Ack(false))
		s.Must(ch.Cancel("low", false))
		ch.Store(q, "2")
		s.Must(high.Next().Ack(false))
	}},
	{"exclusive-consumers", func(s *Script) {
		consume := func(q, tag string, exclusive bool) func(*Channel) error {
			return func(ch *Channel) error {
				_, err := ch.Consume(q, tag, false, exclusive, false, false, nil)
				return err
			}
		}
		for _, kind := range []string{"classic", "quorum"} {
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			s.Must(consume(q, "exclusive", true)(ch))
			s.Try(kind+": a second consumer next to an exclusive one", consume(q, "b", false))
			s.Must(ch.Cancel("exclusive", false))
			s.Must(consume(q, "plain", false)(ch))
			s.Try(kind+": an exclusive one as the second", consume(q, "c", true))
			s.Must(ch.Cancel("plain", false))
			s.Try(kind+": exclusive, once the first has gone", consume(q, "d", true))
			s.Try(kind+": exclusive, with a single active consumer", consume(ch.Queue("single-"+kind, kind, single), "e", true))
		}
	}},
	{"an-exclusive-consumer-does-not-block-basic-get", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("classic", "classic", nil)
		s.Must(ch.Qos(1, 0, false))
		deliveries, err := ch.Consume(q, "a", false, true, false, false, nil)
		s.Must(err)
		ch.Store(q, "1", "2")
		(&Consumer{ch, "a", deliveries}).Next()
		s.Holds(q, 1)
		s.Channel().Get(q)
	}},
}

var single = amqp.Table{"x-single-active-consumer": true}

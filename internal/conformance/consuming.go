package conformance

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

var consuming = []Scenario{
	{"consumer-tags", func(s *Script) {
		ch := s.Channel()
		q, p := ch.Queue("q", "classic", nil), ch.Queue("p", "classic", nil)
		ch.Subscribe(q, "tag")
		s.Title("the same tag on another channel")
		other := ch.conn.Open().Subscribe(p, "tag")
		ch.Store(p, "1")
		other.Next()
		s.Title("cancelled, it can be used again")
		s.Must(ch.Cancel("tag", false))
		again := ch.Subscribe(q, "tag")
		ch.Store(q, "2")
		again.Next()
		s.Title("cancel of a cancelled consumer and of an unknown one")
		s.Must(ch.Cancel("tag", false))
		s.Must(ch.Cancel("tag", false))
		s.Must(ch.Cancel("nobody", false))
		ch.State()
		s.Title("in use")
		s.Try("consume twice by one tag", func(ch *Channel) error {
			ch.Subscribe(q, "tag")
			_, err := ch.Consume(q, "tag", false, false, false, false, nil)
			return err
		})
	}},
	{"consuming-from-a-missing-queue", func(s *Script) {
		s.Try("consume", func(ch *Channel) error {
			_, err := ch.Consume(s.Name("q"), "tag", false, false, false, false, nil)
			return err
		})
		s.Try("get", func(ch *Channel) error {
			_, _, err := ch.Channel.Get(s.Name("q"), false)
			return err
		})
		s.Try("consume from no queue, having declared none", func(ch *Channel) error {
			_, err := ch.Consume("", "tag", false, false, false, false, nil)
			return err
		})
	}},
	{"queue-deleted-while-consuming", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2")
			a := ch.Subscribe(q, "a")
			d := a.Next()
			last := a.Next()
			_, err := ch.conn.Open().QueueDelete(q, false, false, false)
			s.Must(err)
			ch.Event()
			a.Next()
			s.Note("ack and reject the deliveries")
			s.Must(d.Ack(false))
			s.Must(last.Reject(true))
			ch.State()
			s.Note("once more")
			s.Must(d.Ack(false))
			ch.State()
		}
	}},
	{"every-consumer-of-a-deleted-queue-is-cancelled", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Queue("q", "classic", nil)
		ch.Subscribe(q, "a")
		other.Subscribe(q, "b")
		_, err := ch.QueueDelete(q, false, false, false)
		s.Must(err)
		ch.Event()
		other.Event()
		s.Title("the channels stay open")
		q = ch.Queue("q", "quorum", nil)
		a := ch.Subscribe(q, "a")
		ch.Store(q, "m")
		a.Next()
		other.State()
	}},
	{"own-messages-are-delivered-with-no-local", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("q", "classic", nil)
		deliveries, err := ch.Consume(q, "tag", false, false, true, false, nil)
		s.Must(err)
		ch.Store(q, "own")
		(&Consumer{ch, "tag", deliveries}).Next()
	}},
	{"automatic-acknowledgement", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			s.Must(ch.Qos(1, 0, false))
			ch.Store(q, "1", "2", "3")
			_, ok, err := ch.Channel.Get(q, true)
			s.Must(err)
			s.Note("got one: %v", ok)
			deliveries, err := ch.Consume(q, "tag", true, false, false, false, nil)
			s.Must(err)
			a := &Consumer{ch, "tag", deliveries}
			a.Next()
			d := a.Next()
			s.Note("acked none the less")
			s.Must(d.Ack(false))
			ch.Event()
			s.Holds(q, 0)
		}
	}},
	{"consumers-take-turns", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			a, b := ch.Subscribe(q, "a"), ch.Subscribe(q, "b")
			ch.Store(q, "1", "2", "3", "4")
			a.Next()
			a.Next()
			b.Next()
			b.Next()
		}
	}},
	{"prefetch-limits-each-consumer", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			for _, global := range []bool{false, true} {
				s.Title("%s, global %v", kind, global)
				ch := s.Channel()
				q := ch.Queue(fmt.Sprint(kind, global), kind, nil)
				ch.Store(q, "1", "2", "3", "4", "5", "6", "7")
				s.Must(ch.Qos(2, 0, global))
				a := ch.Subscribe(q, "a")
				first := a.Next()
				a.Next()
				b := ch.Subscribe(q, "b")
				b.Next()
				b.Next()
				s.Holds(q, 3)
				s.Note("an ack makes room")
				s.Must(first.Ack(false))
				a.Next()
				s.Note("another prefetch is for the consumers to come")
				s.Must(ch.Qos(1, 0, global))
				ch.Subscribe(q, "c").Next()
				s.Must(ch.Qos(10, 0, global))
				s.Holds(q, 1)
				s.Note("basic.get has no limit")
				ch.Get(q)
			}
		}
	}},
	{"a-quorum-queue-limits-every-prefetch", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			for range 2010 {
				ch.Publish("", q, amqp.Publishing{})
			}
			s.Holds(q, 2010)
			s.Note("consume without a prefetch")
			ch.Subscribe(q, "tag")
			s.Holds(q, map[string]int{"classic": 0, "quorum": 10}[kind])
			s.Must(ch.Ack(5, true))
			s.Holds(q, map[string]int{"classic": 0, "quorum": 5}[kind])
		}
	}},
	{"a-new-consumer-inherits-the-unsettled-messages-of-its-tag", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2", "3", "4", "5", "6")
			s.Must(ch.Qos(2, 0, false))
			a := ch.Subscribe(q, "tag")
			first, second := a.Next(), a.Next()
			s.Must(ch.Cancel("tag", false))
			s.Note("consume again, with two unsettled")
			a = ch.Subscribe(q, "tag")
			if kind == "classic" {
				a.Next()
				a.Next()
			}
			s.Holds(q, map[string]int{"classic": 2, "quorum": 4}[kind])
			s.Note("each that is settled makes room")
			s.Must(second.Ack(false))
			a.Next()
			s.Must(first.Ack(false))
			a.Next()
		}
	}},
	{"prefetch-by-size-is-refused", func(s *Script) {
		s.Try("prefetch of 100 bytes", func(ch *Channel) error { return ch.Qos(1, 100, false) })
	}},
	{"consuming-with-no-wait", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("q", "classic", nil)
		deliveries, err := ch.Consume(q, "tag", true, false, false, true, nil)
		s.Must(err)
		ch.Store(q, "m")
		(&Consumer{ch, "tag", deliveries}).Next()
		s.Must(ch.Cancel("tag", true))
		ch.Store(q, "left")
		s.Holds(q, 1)
		ch.Get(q)
		s.Title("failures are reported all the same")
		s.Try("consume", func(ch *Channel) error {
			_, err := ch.Consume(s.Name("missing"), "tag", false, false, false, true, nil)
			return err
		})
	}},
	{"channel-flow", func(s *Script) {
		s.Try("flow on", func(ch *Channel) error { return ch.Flow(true) })
		s.Try("flow off", func(ch *Channel) error { return ch.Flow(false) })
	}},
}

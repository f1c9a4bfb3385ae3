package conformance

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var consumerTimeouts = []Scenario{
	{"a-consumer-timeout-cancels-the-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", nil)
		ch.Store(q, "1", "2", "3")
		s.Must(ch.Qos(2, 0, false))
		c := ch.SubscribeWith(q, "c", timeout(1000))
		d := c.Next()
		c.Next()
		ch.Sync()
		s.Pass(time.Second)
		ch.Event()
		c.Next()

		s.Title("its deliveries are requeued, and settlements of them are ignored")
		s.Holds(q, 3)
		s.Must(d.Ack(false))
		ch.State()
		s.Holds(q, 3)

		s.Title("the channel can consume again")
		c = ch.SubscribeWith(q, "again", timeout(60_000))
		one, two := c.Next(), c.Next()
		s.Must(one.Ack(false))
		s.Must(two.Ack(false))
		s.Must(c.Next().Ack(false))
		s.Holds(q, 0)
	}},
	{"settling-in-time-prevents-the-timeout", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", timeout(1500))
		s.Must(ch.Qos(1, 0, false))
		ch.Store(q, "1", "2")
		c := ch.Subscribe(q, "c")
		for range 2 {
			d := c.Next()
			s.Pass(900 * time.Millisecond)
			s.Must(d.Ack(false))
		}
		ch.State()
		s.Holds(q, 0)
	}},
	{"the-consumer-timeout-overrides-the-queue-timeout", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", timeout(60_000))
		ch.Store(q, "m")
		c := ch.SubscribeWith(q, "quick", timeout(1000))
		c.Next()
		s.Pass(time.Second)
		ch.Event()
		c.Next()
		s.Must(ch.AwaitGet(q).Ack(false))

		s.Title("and can be the longer one")
		q = ch.Queue("hasty", "quorum", timeout(500))
		ch.Store(q, "m")
		d := ch.SubscribeWith(q, "slow", timeout(60_000)).Next()
		s.Pass(1500 * time.Millisecond)
		s.Must(d.Ack(false))
		s.Holds(q, 0)
		ch.State()
	}},
	{"a-timeout-requeues-only-late-deliveries", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", timeout(1200))
		ch.Store(q, "late")
		c := ch.Subscribe(q, "c")
		late := c.Next()
		s.Pass(800 * time.Millisecond)
		ch.Store(q, "in time")
		d := c.Next()
		s.Pass(400 * time.Millisecond)
		ch.Event()
		s.Must(d.Ack(false))
		s.Must(ch.AwaitGet(q).Ack(false))
		s.Must(late.Nack(false, true))
		ch.State()
		s.Holds(q, 0)
	}},
	{"a-timeout-activates-the-next-single-active-consumer", func(s *Script) {
		first, second := s.Channel(), s.Channel()
		q := first.Queue("work", "quorum", with(single, timeout(1000)))
		a := first.Subscribe(q, "a")
		b := second.Subscribe(q, "b")
		second.Store(q, "m")
		a.Next()
		s.Pass(time.Second)
		first.Event()
		s.Must(b.Next().Ack(false))
		second.State()
	}},
	{"a-timeout-is-delayed-like-a-return", func(s *Script) {
		for _, kind := range []string{"failed", "returned"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue("work-"+kind, "quorum", with(timeout(1000), delayed(kind, 60_000, nil)))
			ch.Store(q, "m")
			ch.Subscribe(q, "c").Next()
			s.Pass(time.Second)
			ch.Event()
			s.Holds(q, map[string]int{"failed": 1}[kind])
			ch.Get(q)
		}
	}},
	{"a-timed-out-consumer-still-exists", func(s *Script) {
		for _, gone := range []bool{false, true} {
			ch, other := s.Channel(), s.Channel()
			q := ch.Queue(map[bool]string{false: "work", true: "cancelled"}[gone], "quorum", nil)
			ch.Store(q, "1", "2")
			c := ch.SubscribeWith(q, "c", timeout(1000))
			one, two := c.Next(), c.Next()
			s.Pass(time.Second)
			ch.Event()
			state, err := other.QueueDeclarePassive(q, true, false, false, false, nil)
			s.Must(err)
			s.Note("%d ready, %d consumers", state.Messages, state.Consumers)
			s.Must(one.Ack(false))
			ch.State()
			s.Holds(q, 2)
			if gone {
				s.Title("with basic.cancel, a late ack means nothing")
				s.Must(ch.Cancel("c", false))
				s.Must(two.Ack(false))
				s.Must(other.Get(q).Ack(false))
				s.Must(other.Get(q).Ack(false))
				return
			}
			s.Title("with the last late ack it gets messages again, which the client does not expect")
			s.Must(two.Ack(false))
			s.Holds(q, 0)
			s.Must(ch.Close())
			s.Holds(q, 2)
			s.Must(other.Get(q).Ack(false))
			s.Must(other.Get(q).Ack(false))
			s.Title("another one")
		}
	}},
	{"a-timeout-after-basic-cancel-closes-the-channel", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Queue("work", "quorum", timeout(1000))
		ch.Store(q, "1", "2")
		c := ch.Subscribe(q, "c")
		c.Next()
		c.Next()
		s.Must(ch.Cancel("c", false))
		s.Pass(time.Second)
		ch.Event()
		s.Must(other.AwaitGet(q).Ack(false))
		s.Must(other.AwaitGet(q).Ack(false))
	}},
	{"the-tag-of-a-timed-out-consumer-stays-in-use", func(s *Script) {
		s.Try("consuming by it again", func(ch *Channel) error {
			q := ch.Queue("work", "quorum", nil)
			ch.Store(q, "m")
			ch.SubscribeWith(q, "c", timeout(1000)).Next()
			s.Pass(time.Second)
			ch.Event()
			_, err := ch.Consume(q, "c", false, false, false, false, nil)
			return err
		})
	}},
	{"a-basic-get-timeout-closes-the-channel", func(s *Script) {
		ch, other := s.Channel(), s.Channel()
		q := ch.Queue("work", "quorum", timeout(1000))
		ch.Store(q, "m")
		ch.Get(q)
		s.Pass(time.Second)
		ch.Event()
		s.Must(other.AwaitGet(q).Ack(false))
	}},
	{"timeouts-are-for-quorum-queues", func(s *Script) {
		s.Try("a classic queue with x-consumer-timeout", func(ch *Channel) error {
			_, err := ch.QueueDeclare(s.Name("classic"), true, false, false, false, with(timeout(1000), amqp.Table{"x-queue-type": "classic"}))
			return err
		})
		s.Try("a consumer of a classic queue with it", func(ch *Channel) error {
			_, err := ch.Consume(ch.Queue("plain", "classic", nil), "c", false, false, false, false, timeout(1000))
			return err
		})
	}},
}

func timeout(milliseconds int) amqp.Table { return amqp.Table{"x-consumer-timeout": milliseconds} }

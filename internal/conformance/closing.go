package conformance

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

var closing = []Scenario{
	{"a-channel-error-does-not-affect-other-channels", func(s *Script) {
		failing := s.Channel()
		other := failing.conn.Open()
		q := failing.Queue("q", "classic", nil)
		failing.Store(q, "1", "2")
		s.Must(failing.Qos(1, 0, false))
		failing.Subscribe(q, "failing").Next()
		s.Must(failing.Ack(77, false))
		failing.Event()
		failing.Event()
		s.Title("the other channel")
		s.Must(other.Confirm(false))
		c := other.Subscribe(q, "other")
		c.Next()
		c.Next()
		other.Publish("", q, amqp.Publishing{Body: []byte("3")})
		other.Event()
		c.Next()
		other.State()
	}},
	{"a-connection-error-closes-all-its-channels", func(s *Script) {
		ch := s.Channel()
		other, elsewhere := ch.conn.Open(), s.Channel()
		s.Must(ch.PublishWithContext(s.ctx, "amq.fanout", "", false, true, amqp.Publishing{}))
		ch.Event()
		other.Event()
		other.Event()
		ch.conn.Closed()
		s.Title("another connection")
		elsewhere.State()
	}},
	{"methods-after-a-channel-error-are-ignored", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("q", "classic", nil)
		s.Must(ch.PublishWithContext(s.ctx, s.Name("missing"), "", false, false, amqp.Publishing{}))
		for range 10 { // until amqp091-go has seen the error
			_ = ch.PublishWithContext(s.ctx, "", q, false, false, amqp.Publishing{})
		}
		ch.Event()
		ch.conn.Open().Sync()
		s.Holds(q, 0)
	}},
	{"a-reused-channel-number-starts-fresh", func(s *Script) {
		conn := s.Dial()
		ch := conn.Open()
		q := ch.Queue("q", "classic", nil)
		ch.Store(q, "1", "2", "3")
		s.Must(ch.Confirm(false))
		s.Must(ch.Qos(1, 0, false))
		ch.Publish("", q, amqp.Publishing{Body: []byte("4")})
		ch.Event()
		ch.Subscribe(q, "tag").Next()
		s.Must(ch.Close())
		s.Holds(q, 4)
		s.Title("the next channel has its number")
		ch = conn.Open()
		c := ch.Subscribe(q, "tag")
		for range 4 {
			c.Next()
		}
		s.Title("it does not confirm, and settles only its own")
		ch.Publish("", q, amqp.Publishing{Body: []byte("5")})
		c.Next()
		s.Must(ch.Ack(5, true))
		ch.State()
		s.Must(ch.Ack(5, false))
		ch.Event()
	}},
	{"messages-published-before-a-close-are-stored", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			for _, what := range []string{"channel", "connection"} {
				ch := s.Channel()
				q := ch.Queue(fmt.Sprint(kind, " ", what), kind, nil)
				s.Must(ch.Confirm(false))
				for range 50 {
					ch.Publish("", q, amqp.Publishing{Body: []byte("m"), DeliveryMode: amqp.Persistent})
				}
				if what == "channel" {
					s.Must(ch.Close())
				} else {
					s.Must(ch.conn.Close())
				}
				s.Holds(q, 50)
			}
		}
	}},
	{"a-channel-error-keeps-earlier-messages", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("q", "quorum", nil)
		s.Must(ch.Confirm(false))
		ch.Publish("", q, amqp.Publishing{Body: []byte("1")})
		ch.Event()
		ch.Publish(s.Name("missing"), "", amqp.Publishing{Body: []byte("2")})
		s.Note("no confirm any more")
		ch.Event()
		ch.Event()
		s.Holds(q, 1)
	}},
	{"a-closed-connection-requeues-its-deliveries", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2")
			s.Must(ch.Qos(1, 0, false))
			ch.Subscribe(q, "tag").Next()
			s.Must(ch.conn.Close())
			s.Holds(q, 2)
			ch = s.Channel()
			ch.Get(q)
			ch.Get(q)
		}
	}},
}

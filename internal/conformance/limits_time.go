package conformance

import (
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const ms = time.Millisecond

var timeLimits = []Scenario{
	{"the-shorter-ttl-applies", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			for _, c := range []struct {
				name, own string
				args      amqp.Table
			}{
				{"of the queue", "", amqp.Table{"x-message-ttl": 1}},
				{"of the message", "1", nil},
				{"of the queue before the message's", "60000", amqp.Table{"x-message-ttl": 1}},
				{"of the message before the queue's", "1", amqp.Table{"x-message-ttl": 60_000}},
			} {
				s.Title("%s: %s", kind, c.name)
				ch := s.Channel()
				dead := ch.Queue("dead-"+kind+" "+c.name, kind, nil)
				q := ch.Queue(kind+" "+c.name, kind, with(to(dead), c.args))
				ch.StoreMessage(q, amqp.Publishing{Body: []byte("m"), Expiration: c.own})
				s.Pass(ms)
				s.Must(ch.AwaitGet(dead).Ack(false))
				s.Holds(q, 0)
			}
		}
	}},
	{"messages-expire-at-the-head", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue(kind, kind, to(dead))
			ch.Store(q, "stays")
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("behind"), Expiration: "1"})
			s.Pass(50 * ms)
			s.Holds(q, 2)
			ch.Get(dead)
			s.Must(ch.Get(q).Ack(false))
			s.Must(ch.AwaitGet(dead).Ack(false))
			s.Holds(q, 0)
		}
	}},
	{"messages-that-expired-behind-the-head-are-not-delivered", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "first")
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("behind"), Expiration: "50"})
			ch.Store(q, "last")
			s.Pass(100 * ms)
			c := ch.Subscribe(q, "c")
			c.Next()
			c.Next()
			s.Holds(q, 0)
		}
	}},
	{"requeued-messages-keep-their-ttl", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue(kind, kind, with(to(dead), amqp.Table{"x-message-ttl": 300}))
			ch.Store(q, "m")
			d := ch.Get(q)
			s.Pass(400 * ms) // an unsettled delivery does not expire
			ch.Get(dead)
			s.Must(nackRequeue(d))
			s.Must(ch.AwaitGet(dead).Ack(false))
		}
	}},
	{"a-ttl-of-zero-needs-a-waiting-consumer", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue(kind, kind, with(to(dead), amqp.Table{"x-message-ttl": 0}))
			ch.Store(q, "nobody waits")
			s.Must(ch.AwaitGet(dead).Ack(false))
			c := ch.Subscribe(q, "c")
			ch.Store(q, "somebody waits")
			s.Must(c.Next().Ack(false))
		}
	}},
	{"expired-messages-without-a-dead-letter-exchange-are-discarded", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			ch := s.Channel()
			q := ch.Queue(kind, kind, amqp.Table{"x-message-ttl": 1})
			ch.Store(q, "m")
			s.Pass(ms)
			s.Holds(q, 0)
			ch.Get(q)
		}
	}},
	{"an-unused-classic-queue-expires", func(s *Script) {
		s.Title("with its messages, which are not dead-lettered")
		ch := s.Channel()
		dead := ch.Queue("dead", "classic", nil)
		q := ch.Queue("unused", "classic", with(to(dead), amqp.Table{"x-expires": 200}))
		ch.Store(q, "m")
		s.Pass(500 * ms)
		s.Try("declared passively", declaredPassively(q))
		s.Holds(dead, 0)

		s.Title("not while it has a consumer, which is not notified")
		q = ch.Queue("used", "classic", amqp.Table{"x-expires": 200})
		ch.Subscribe(q, "c")
		s.Pass(500 * ms)
		s.Holds(q, 0)
		s.Must(ch.Cancel("c", false))
		s.Pass(500 * ms)
		s.Try("declared passively", declaredPassively(q))
	}},
	{"an-unused-quorum-queue-expires", func(s *Script) {
		ch := s.Channel()
		dead := ch.Queue("dead", "quorum", nil)
		q := ch.Queue("unused", "quorum", with(to(dead), amqp.Table{"x-expires": 200}))
		ch.Store(q, "m")
		s.Pass(200 * ms)
		awaitDeleted(s, q) // RabbitMQ checks quorum queues every five seconds
		s.Holds(dead, 0)
	}},
	{"use-renews-a-classic-queue", func(s *Script) {
		args := amqp.Table{"x-queue-type": "classic", "x-expires": 900}
		uses := []struct {
			name string
			act  func(ch *Channel, q string) error
		}{
			{"queue.declare", func(ch *Channel, q string) error {
				_, err := ch.QueueDeclare(q, true, false, false, false, args)
				return err
			}},
			{"queue.declare, passive", func(ch *Channel, q string) error { return declaredPassively(q)(ch) }},
			{"basic.get", func(ch *Channel, q string) error {
				_, _, err := ch.Channel.Get(q, true)
				return err
			}},
			{"basic.publish", func(ch *Channel, q string) error {
				ch.Store(q, "m")
				return nil
			}},
		}
		ch := s.Channel()
		var queues []string
		for _, use := range uses {
			queues = append(queues, ch.Queue("used by "+use.name, "classic", args))
		}
		s.Pass(500 * ms)
		for i, use := range uses {
			s.Must(use.act(ch, queues[i]))
		}
		s.Pass(600 * ms)
		for i, use := range uses {
			s.Try("after "+use.name, declaredPassively(queues[i]))
		}
	}},
}

func declaredPassively(queue string) func(*Channel) error {
	return func(ch *Channel) error {
		_, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	}
}

// awaitDeleted waits until a queue is deleted, and writes the error of a passive declaration.
func awaitDeleted(s *Script, queue string) {
	s.tb.Helper()
	conn := s.Dial()
	defer conn.Close()
	for end := time.Now().Add(eventTimeout); ; time.Sleep(ms) {
		ch, err := conn.Channel()
		s.Must(err)
		_, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		var gone *amqp.Error
		switch {
		case errors.As(err, &gone):
			s.Note("%s", failure(err))
			return
		case time.Now().After(end):
			s.tb.Fatalf("%s was not deleted", queue)
		}
		s.Must(ch.Close())
	}
}

package conformance

import (
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Scenarios about messages that the broker or amqp091-go refuses, and about global prefetch.
var refusedMessages = []Scenario{
	{"expiration-values", func(s *Script) {
		for _, v := range []string{
			"0", "1", "+1", "007", "315360000000", "315360000001", "-1", "-0", "abc", "1.5", "1 ", " 1", "1e3", "0x10", "--1",
		} {
			s.Try(value(v), func(ch *Channel) error {
				return ch.PublishWithContext(s.ctx, "amq.fanout", "", false, false, amqp.Publishing{Expiration: v})
			})
		}
	}},
	{"messages-that-amqp091-go-cannot-send", func(s *Script) {
		publish := func(key string, headers amqp.Table) func(*Channel) error {
			return func(ch *Channel) error {
				return ch.PublishWithContext(s.ctx, "amq.fanout", key, false, false, amqp.Publishing{Headers: headers})
			}
		}
		s.Try("a header of uint64", publish("", amqp.Table{"a": uint64(1)}))
		s.Try("a routing key of 255 bytes", publish(strings.Repeat("k", 255), nil))
		ch := s.Channel()
		s.Note("a routing key of 256 bytes:")
		_ = publish(strings.Repeat("k", 256), nil)(ch) // the error depends on how far the connection is closed
		ch.conn.Closed()
	}},
	{"names-that-are-not-utf-8", func(s *Script) {
		const bad = "a\xff"
		ch := s.Channel()
		q := ch.Queue("work", "classic", nil)
		publish := func(exchange, key string, m amqp.Publishing) func(*Channel) error {
			return func(ch *Channel) error { return ch.PublishWithContext(s.ctx, exchange, key, false, false, m) }
		}
		for _, f := range []struct {
			what string
			act  func(*Channel) error
		}{
			{"queue.declare", func(ch *Channel) error { _, err := ch.QueueDeclare(bad, false, true, true, false, nil); return err }},
			{"queue.declare, passive", func(ch *Channel) error {
				_, err := ch.QueueDeclarePassive(bad, false, true, true, false, nil)
				return err
			}},
			{"queue.bind", func(ch *Channel) error { return ch.QueueBind(q, bad, "amq.topic", false, nil) }},
			{"exchange.declare", func(ch *Channel) error { return ch.ExchangeDeclare(bad, "fanout", false, true, false, false, nil) }},
			{"basic.consume", func(ch *Channel) error { _, err := ch.Consume(q, bad, false, false, false, false, nil); return err }},
			{"exchange of basic.publish", publish(bad, "", amqp.Publishing{})},
			{"routing key of basic.publish", publish("", bad, amqp.Publishing{})},
			{"a property", publish("", q, amqp.Publishing{MessageId: bad})},
			{"the name of a header", publish("", q, amqp.Publishing{Headers: amqp.Table{bad: 1}})},
			{"the value of a header", publish("", q, amqp.Publishing{Headers: amqp.Table{"a": bad}})},
			{"the name of an argument", func(ch *Channel) error { return ch.QueueBind(q, "", "amq.headers", false, amqp.Table{bad: 1}) }},
		} {
			s.Try(f.what, f.act)
		}
		s.Try("a name of more than ASCII", func(ch *Channel) error { return ch.QueueBind(q, "ä€😀", "amq.topic", false, nil) })
	}},
	{"a-missing-exchange-closes-the-channel", func(s *Script) {
		ch := s.Channel()
		s.Must(ch.Confirm(false))
		missing := s.Name("missing")
		c, err := ch.PublishWithDeferredConfirmWithContext(s.ctx, missing, "", true, false, amqp.Publishing{})
		s.Must(err)
		ch.Event()
		ok, err := c.WaitContext(s.ctx)
		s.Must(err)
		s.Note("confirmed: %t", ok)
		ch.conn.Open().State()
	}},
	{"global-prefetch-applies-to-each-consumer", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "a", "b", "c", "d", "e")
			s.Must(ch.Qos(2, 0, true))
			a, err := ch.Consume(q, "a of "+kind, false, false, false, false, nil)
			s.Must(err)
			b, err := ch.Consume(q, "b of "+kind, false, false, false, false, nil)
			s.Must(err)
			<-a
			<-a
			<-b
			<-b
			s.Await(q, 1, 2)
		}
	}},
}

package conformance

import (
	"regexp"

	amqp "github.com/rabbitmq/amqp091-go"
)

const replyTo = "amq.rabbitmq.reply-to"

// replyAddress matches the addresses that the broker generates for replies.
var replyAddress = regexp.MustCompile(`amq\.rabbitmq\.reply-to\.[\w./+=-]+`)

// replies starts a consumer of direct reply-to messages.
func (ch *Channel) replies() *Consumer {
	ch.s.tb.Helper()
	deliveries, err := ch.Consume(replyTo, "replies", true, false, false, false, nil)
	ch.s.Must(err)
	return &Consumer{ch, "replies", deliveries}
}

// request sends a request to a server. It returns the reply address that the server received.
func (ch *Channel) request(server *Channel, queue string) string {
	ch.s.tb.Helper()
	ch.Publish("", queue, amqp.Publishing{ReplyTo: replyTo, CorrelationId: "1", Body: []byte("request")})
	return server.AwaitGet(queue).ReplyTo
}

var replying = []Scenario{
	{"direct-reply-to", func(s *Script) {
		ch, server := s.Channel(), s.Channel()
		q := server.Queue("requests", "classic", nil)
		replies := ch.replies()
		to := ch.request(server, q)
		s.Must(server.Confirm(false))
		for _, body := range []string{"reply", "another"} {
			server.Publish("", to, amqp.Publishing{
				CorrelationId: "1", Headers: amqp.Table{"n": int64(1)}, DeliveryMode: amqp.Persistent, Body: []byte(body),
			})
			server.Event()
			replies.Next()
		}
		s.Title("another request has the same address")
		s.Note("%v", ch.request(server, q) == to)
		s.Title("through an exchange")
		x := ch.Exchange("x", "fanout", nil)
		s.Must(ch.QueueBind(q, "", x, false, nil))
		ch.Publish(x, "", amqp.Publishing{ReplyTo: replyTo})
		s.Note("%v", server.AwaitGet(q).ReplyTo == to)
		s.Title("by a header")
		server.Publish("", q, amqp.Publishing{Headers: amqp.Table{"CC": []any{to}}, Body: []byte("copy")})
		server.Event()
		d, _, err := ch.Channel.Get(q, true)
		s.Must(err)
		s.Note("the queue has %s", body(d.Body))
		replies.Next()
		s.Title("by another exchange")
		server.Publish("amq.direct", to, amqp.Publishing{Body: []byte("astray")})
		server.Event()
		server.Event()
		s.Title("other addresses stay as they are")
		ch.Publish("", q, amqp.Publishing{ReplyTo: "elsewhere"})
		server.AwaitGet(q)
	}},
	{"direct-reply-to-addresses", func(s *Script) {
		ch, server := s.Channel(), s.Channel()
		q := server.Queue("requests", "classic", nil)
		replies := ch.replies()
		to := ch.request(server, q)
		there := func() {
			s.Try("is the address there", func(ch *Channel) error {
				_, err := ch.QueueDeclarePassive(to, false, false, false, false, nil)
				return err
			})
		}
		there()
		s.Try("declare the address", func(ch *Channel) error {
			_, err := ch.QueueDeclare(to, true, false, false, false, nil)
			return err
		})
		s.Try("bind the address", func(ch *Channel) error { return ch.QueueBind(to, "k", "amq.direct", false, nil) })
		s.Try("get from the address", func(ch *Channel) error {
			_, _, err := ch.Channel.Get(to, true)
			return err
		})
		s.Try("consume from the address", func(ch *Channel) error {
			_, err := ch.Consume(to, "tag", true, false, false, false, nil)
			return err
		})
		s.Try("purge the address", func(ch *Channel) error {
			_, err := ch.QueuePurge(to, false)
			return err
		})
		s.Try("delete the address", func(ch *Channel) error {
			_, err := ch.QueueDelete(to, false, false, false)
			return err
		})
		there()
		s.Title("cancelled")
		s.Must(ch.Cancel("replies", false))
		replies.Next()
		there()
		s.Must(server.Confirm(false))
		server.Publish("", to, amqp.Publishing{Body: []byte("reply")})
		server.Event()
		s.Title("consumed again: another address")
		ch.replies()
		again := ch.request(server, q)
		s.Note("the same: %v", again == to)
		s.Title("closed")
		to = again
		s.Must(ch.Close())
		there()
		server.Publish("", to, amqp.Publishing{Body: []byte("reply")})
		server.Event()
		s.Title("an address that never was")
		server.Publish("", replyTo+".g1h2AA9yZXBseUAxMjM0NTY3OAAAAAAAAAAA.AAAA", amqp.Publishing{Body: []byte("reply")})
		server.Event()
		server.State()
	}},
	{"direct-reply-to-refused", func(s *Script) {
		consume := func(ch *Channel, tag string, autoAck bool) error {
			_, err := ch.Consume(replyTo, tag, autoAck, false, false, false, nil)
			return err
		}
		request := func(ch *Channel) error {
			return ch.PublishWithContext(s.ctx, "amq.fanout", "", false, false, amqp.Publishing{ReplyTo: replyTo})
		}
		s.Try("consume with manual acknowledgement", func(ch *Channel) error { return consume(ch, "tag", false) })
		s.Try("consume twice", func(ch *Channel) error {
			s.Must(consume(ch, "a", true))
			return consume(ch, "b", true)
		})
		s.Try("consume on two channels", func(ch *Channel) error {
			s.Must(consume(ch, "a", true))
			return consume(ch.conn.Open(), "a", true)
		})
		s.Try("request before consuming", request)
		s.Try("request on another channel", func(ch *Channel) error {
			s.Must(consume(ch.conn.Open(), "tag", true))
			return request(ch)
		})
		s.Try("request after the cancel", func(ch *Channel) error {
			s.Must(consume(ch, "tag", true))
			s.Must(ch.Cancel("tag", false))
			return request(ch)
		})
		s.Title("what else can be done to a queue")
		s.Try("declare passively", func(ch *Channel) error {
			q, err := ch.QueueDeclarePassive(replyTo, false, false, false, false, nil)
			s.Note("%s: %d messages, %d consumers", q.Name, q.Messages, q.Consumers)
			return err
		})
		s.Try("declare", func(ch *Channel) error {
			q, err := ch.QueueDeclare(replyTo, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
			s.Note("%s: %d messages, %d consumers", q.Name, q.Messages, q.Consumers)
			return err
		})
		s.Try("declare an address", func(ch *Channel) error {
			_, err := ch.QueueDeclare(replyTo+".address", true, false, false, false, nil)
			return err
		})
		s.Try("bind", func(ch *Channel) error { return ch.QueueBind(replyTo, "k", "amq.fanout", false, nil) })
		s.Try("get", func(ch *Channel) error {
			_, _, err := ch.Channel.Get(replyTo, true)
			return err
		})
		s.Try("purge", func(ch *Channel) error {
			_, err := ch.QueuePurge(replyTo, false)
			return err
		})
		s.Try("delete", func(ch *Channel) error {
			_, err := ch.QueueDelete(replyTo, false, false, false)
			return err
		})
	}},
}

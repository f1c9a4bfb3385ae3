package conformance

import (
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

var confirming = []Scenario{
	{"confirms-count-from-confirm-select", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("q", "quorum", nil)
		ch.Publish("", q, amqp.Publishing{Body: []byte("before")})
		s.Must(ch.Confirm(false))
		ch.Publish("", q, amqp.Publishing{Body: []byte("after")})
		ch.Event()
		s.Title("selected again")
		s.Must(ch.Confirm(false))
		ch.Publish("", q, amqp.Publishing{Body: []byte("again")})
		ch.Event()
		s.Title("another channel counts on its own")
		other := ch.conn.Open()
		s.Must(other.Confirm(false))
		other.Publish("", q, amqp.Publishing{Body: []byte("other")})
		other.Event()
		s.Holds(q, 4)
	}},
	{"every-message-is-confirmed", func(s *Script) {
		ch := s.Channel()
		x, classic, quorum := ch.Exchange("x", "fanout", nil), ch.Queue("classic", "classic", nil), ch.Queue("quorum", "quorum", nil)
		s.Must(ch.Confirm(false))
		for _, mode := range []uint8{amqp.Transient, amqp.Persistent} {
			m := amqp.Publishing{DeliveryMode: mode, Body: []byte("m")}
			for _, key := range []string{classic, quorum, s.suffix} {
				s.Must(ch.PublishWithContext(s.ctx, "", key, false, false, m))
				ch.Event()
			}
			s.Must(ch.PublishWithContext(s.ctx, x, "", false, false, m))
			ch.Event()
		}
		s.Title("into two queues: one confirm")
		s.Must(ch.QueueBind(classic, "", x, false, nil))
		s.Must(ch.QueueBind(quorum, "", x, false, nil))
		ch.Publish(x, "", amqp.Publishing{})
		ch.Event()
		s.Title("expired at once, dropped by a length of 0")
		ch.Publish("", classic, amqp.Publishing{Expiration: "0"})
		ch.Event()
		ch.Publish("", ch.Queue("short", "classic", amqp.Table{"x-max-length": 0}), amqp.Publishing{})
		ch.Event()
	}},
	{"full-queues-reject-messages", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s with room for 2", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, amqp.Table{"x-max-length": 2, "x-overflow": "reject-publish"})
			s.Must(ch.Confirm(false))
			for range 6 {
				ch.Publish("", q, amqp.Publishing{Body: []byte("m")})
				ch.Event()
			}
			ch.State()
		}
	}},
	{"returned-and-routed-messages", func(s *Script) {
		ch := s.Channel()
		q, x := ch.Queue("q", "quorum", nil), ch.Exchange("x", "direct", nil)
		s.Must(ch.QueueBind(q, "k", x, false, nil))
		s.Must(ch.Confirm(false))
		for _, key := range []string{"k", "nobody", "k", "nobody", "nobody", "k"} {
			ch.Publish(x, key, amqp.Publishing{Body: []byte("to " + key)})
			ch.Event()
			if key == "nobody" {
				ch.Event()
			}
		}
		s.Holds(q, 3)
		s.Title("without mandatory")
		s.Must(ch.PublishWithContext(s.ctx, x, "nobody", false, false, amqp.Publishing{}))
		ch.Event()
		s.Title("without confirms")
		other := s.Channel()
		other.Publish(x, "nobody", amqp.Publishing{Body: []byte("m")})
		other.Event()
		s.Title("a body of several frames")
		other.Publish(x, "nobody", amqp.Publishing{Body: []byte(strings.Repeat("m", 200_000))})
		other.Event()
	}},
	{"returns-come-before-their-confirms-in-a-burst", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("q", "quorum", nil)
		s.Must(ch.Confirm(false))
		const n = 200
		for i := 1; i <= n; i++ { // messages with an odd number are unroutable
			ch.Publish("", q+[]string{"", "x"}[i%2], amqp.Publishing{Body: fmt.Append(nil, i)})
		}
		returned := make(map[int]bool)
		acks, early := 0, 0
		for acks < n {
			var tag int
			e := ch.event()
			if _, of, ok := strings.Cut(e, "body "); ok {
				_, err := fmt.Sscanf(of, "\"%d\"", &tag)
				s.Must(err)
				returned[tag] = true
				continue
			}
			_, err := fmt.Sscanf(e, "ack of %d", &tag)
			s.Must(err)
			acks++
			if tag%2 == 1 && !returned[tag] {
				early++
			}
		}
		s.Note("%d acks, %d returns, %d acks before their return", acks, len(returned), early)
	}},
	{"returns-carry-the-published-message", func(s *Script) {
		ch := s.Channel()
		returns := ch.NotifyReturn(make(chan amqp.Return, 1))
		ch.Publish("amq.direct", "nobody", amqp.Publishing{
			Headers:     amqp.Table{"n": int64(1), "CC": []any{"cc"}, "BCC": []any{"bcc"}},
			ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent, Priority: 3, CorrelationId: "c",
			ReplyTo: "r", Expiration: "60000", MessageId: "m", Type: "t", UserId: "guest", AppId: "a", Body: []byte("body"),
		})
		r := <-returns
		s.Note("%d %s: %s", r.ReplyCode, r.ReplyText, message(amqp.Delivery{
			Headers: r.Headers, ContentType: r.ContentType, ContentEncoding: r.ContentEncoding, DeliveryMode: r.DeliveryMode,
			Priority: r.Priority, CorrelationId: r.CorrelationId, ReplyTo: r.ReplyTo, Expiration: r.Expiration, MessageId: r.MessageId,
			Timestamp: r.Timestamp, Type: r.Type, UserId: r.UserId, AppId: r.AppId, Exchange: r.Exchange, RoutingKey: r.RoutingKey, Body: r.Body,
		}))
	}},
}

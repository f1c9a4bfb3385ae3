package conformance

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var deadLetterRouting = []Scenario{
	{"dead-letter-routing-keys", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			ch := s.Channel()
			x := ch.Exchange("dlx-"+kind, "topic", nil)
			dead := ch.Queue("dead-"+kind, kind, nil)
			s.Must(ch.QueueBind(dead, "#", x, false, nil))
			in := ch.Exchange("in-"+kind, "fanout", nil)

			s.Title("%s: without a key of the queue a message keeps its own", kind)
			plain := ch.Queue("plain-"+kind, kind, amqp.Table{"x-dead-letter-exchange": x})
			s.Must(ch.QueueBind(plain, "", in, false, nil))
			ch.Publish(in, "order.paid", amqp.Publishing{Body: []byte("m")})
			s.Must(rejectDiscard(ch.AwaitGet(plain)))
			s.Must(ch.AwaitGet(dead).Ack(false))

			s.Title("%s: and all of them, with CC and BCC", kind)
			ch.Publish(in, "order.paid", amqp.Publishing{Body: []byte("m"), Headers: amqp.Table{"CC": []any{"copy"}, "BCC": []any{"blind"}}})
			s.Must(rejectDiscard(ch.AwaitGet(plain)))
			s.Must(ch.AwaitGet(dead).Ack(false))

			s.Title("%s: the key of the queue replaces them", kind)
			keyed := ch.Queue("keyed-"+kind, kind, amqp.Table{"x-dead-letter-exchange": x, "x-dead-letter-routing-key": "dead"})
			ch.StoreMessage(keyed, amqp.Publishing{Body: []byte("m"), Headers: amqp.Table{"CC": []any{"copy"}}})
			s.Must(rejectDiscard(ch.AwaitGet(keyed)))
			s.Must(ch.AwaitGet(dead).Ack(false))
		}
	}},
	{"unroutable-dead-letters-are-dropped", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			ch := s.Channel()
			x := ch.Exchange("dlx-"+kind, "direct", nil)
			s.Title("%s: the exchange is missing, or has no binding", kind)
			missing := ch.Queue("missing-"+kind, kind, amqp.Table{"x-dead-letter-exchange": s.Name("missing")})
			unbound := ch.Queue("unbound-"+kind, kind, amqp.Table{"x-dead-letter-exchange": x})
			for _, q := range []string{missing, unbound} {
				ch.Store(q, "m")
				s.Must(rejectDiscard(ch.Get(q)))
				s.Holds(q, 0)
			}
			ch.State()

			s.Title("%s: but the exchange may come later", kind)
			late := ch.Exchange("missing", "fanout", nil)
			dead := ch.Queue("dead-"+kind, kind, nil)
			s.Must(ch.QueueBind(dead, "", late, false, nil))
			ch.Store(missing, "later")
			s.Must(rejectDiscard(ch.Get(missing)))
			s.Must(ch.AwaitGet(dead).Ack(false))
			s.Must(ch.ExchangeDelete(late, false, false))
		}
	}},
	{"dead-letters-are-routed-like-other-messages", func(s *Script) {
		ch := s.Channel()
		unrouted := ch.Exchange("unrouted", "fanout", nil)
		x := ch.Exchange("dlx", "direct", amqp.Table{"alternate-exchange": unrouted})
		inner := ch.Exchange("inner", "fanout", nil)
		a, b, rest := ch.Queue("a", "classic", nil), ch.Queue("b", "quorum", nil), ch.Queue("rest", "quorum", nil)
		s.Must(ch.ExchangeBind(inner, "known", x, false, nil))
		s.Must(ch.QueueBind(a, "", inner, false, nil))
		s.Must(ch.QueueBind(b, "", inner, false, nil))
		s.Must(ch.QueueBind(rest, "", unrouted, false, nil))
		for _, key := range []string{"known", "unknown"} {
			s.Title("key %s", key)
			q := ch.Queue("work-"+key, "quorum", amqp.Table{"x-dead-letter-exchange": x, "x-dead-letter-routing-key": key})
			ch.Store(q, "m")
			s.Must(rejectDiscard(ch.Get(q)))
			if key == "unknown" {
				s.Must(ch.AwaitGet(rest).Ack(false))
				continue
			}
			s.Must(ch.AwaitGet(a).Ack(false))
			s.Must(ch.AwaitGet(b).Ack(false))
		}
	}},
	{"purged-and-deleted-messages-are-not-dead-lettered", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue("work-"+kind, kind, to(dead))
			ch.Store(q, "a", "b")
			n, err := ch.QueuePurge(q, false)
			s.Must(err)
			s.Note("%d purged", n)
			ch.Store(q, "c")
			n, err = ch.QueueDelete(q, false, false, false)
			s.Must(err)
			s.Note("%d deleted", n)
			ch.Store(dead, "behind")
			s.Must(ch.Get(dead).Ack(false))
		}
	}},
	{"dead-letter-strategies", func(s *Script) {
		ch := s.Channel()
		for _, strategy := range []string{"at-most-once", "at-least-once"} {
			s.Title("%s with reject-publish: the dead letter arrives", strategy)
			dead := ch.Queue("dead-"+strategy, "quorum", nil)
			args := with(to(dead), amqp.Table{"x-overflow": "reject-publish", "x-dead-letter-strategy": strategy})
			q := ch.Queue("work-"+strategy, "quorum", args)
			ch.Store(q, "m")
			s.Must(rejectDiscard(ch.Get(q)))
			s.Must(ch.AwaitGet(dead).Ack(false))
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("m"), Expiration: "1"})
			s.Pass(time.Millisecond)
			s.Must(ch.AwaitGet(dead).Ack(false))
		}
		s.Title("at-least-once with drop-head is accepted")
		dead := ch.Queue("dead", "quorum", nil)
		q := ch.Queue("work", "quorum", with(to(dead), amqp.Table{"x-dead-letter-strategy": "at-least-once"}))
		ch.Store(q, "m")
		s.Must(rejectDiscard(ch.Get(q)))
		s.Must(ch.AwaitGet(dead).Ack(false))

		s.Title("at-least-once keeps messages without a route, and no client can see them")
		q = ch.Queue("kept", "quorum", amqp.Table{
			"x-dead-letter-exchange": s.Name("missing"), "x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once",
		})
		ch.Store(q, "m")
		s.Must(rejectDiscard(ch.Get(q)))
		s.Holds(q, 0)
		ch.Get(q)
	}},
}

package conformance

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

var lengthLimits = []Scenario{
	{"a-full-queue-drops-its-head", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s: two of four messages", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue(kind, kind, with(to(dead), amqp.Table{"x-max-length": 2}))
			ch.Store(q, "1", "2", "3", "4")
			s.Holds(q, 2)
			s.Must(ch.AwaitGet(dead).Ack(false))
			s.Must(ch.AwaitGet(dead).Ack(false))

			s.Title("%s: unsettled messages do not count until they return", kind)
			d := ch.Get(q)
			ch.Store(q, "5")
			s.Holds(q, 2)
			s.Must(nackRequeue(d))
			s.Must(ch.AwaitGet(dead).Ack(false))
			s.Holds(q, 2)
			s.Must(ch.Get(q).Ack(false))
			s.Must(ch.Get(q).Ack(false))
		}
	}},
	{"requeueing-to-a-full-queue", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue(kind, kind, with(to(dead), amqp.Table{"x-max-length": 2}))
			s.Must(ch.Qos(1, 0, false))
			c := ch.Subscribe(q, "c")
			ch.Store(q, "1")
			d := c.Next()
			ch.Store(q, "2", "3")
			s.Must(nackRequeue(d))
			c.Next()
			s.Holds(dead, map[string]int{"classic": 1, "quorum": 0}[kind])
		}
	}},
	{"a-max-length-of-zero", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue(kind, kind, with(to(dead), amqp.Table{"x-max-length": 0}))
			ch.Store(q, "dropped")
			s.Must(ch.AwaitGet(dead).Ack(false))
			s.Holds(q, 0)
			c := ch.Subscribe(q, "c")
			ch.Store(q, "taken at once")
			s.Must(c.Next().Ack(false))
		}
	}},
	{"length-in-bytes", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s: 300 bytes, of messages with 100 and a last one with 1000", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			// Quorum queues also count some bytes of the message properties. The additional 50 bytes leave room for them.
			q := ch.Queue(kind, kind, with(to(dead), amqp.Table{"x-max-length-bytes": 350}))
			for range 5 {
				ch.Store(q, string(make([]byte, 100)))
			}
			s.Holds(q, 3)
			s.Holds(dead, 2)
			ch.Store(q, string(make([]byte, 1000)))
			s.Holds(q, 0)
			s.Holds(dead, 6)
		}
	}},
	{"a-full-classic-queue-rejects", func(s *Script) {
		for _, overflow := range []string{"reject-publish", "reject-publish-dlx"} {
			s.Title("%s", overflow)
			ch := s.Channel()
			dead := ch.Queue("dead-"+overflow, "classic", nil)
			q := ch.Queue(overflow, "classic", with(to(dead), amqp.Table{"x-max-length": 2, "x-overflow": overflow}))
			s.Note("confirms %s", publishAndConfirm(ch, q, 4))
			s.Holds(q, 2)
			if overflow == "reject-publish-dlx" {
				s.Must(ch.AwaitGet(dead).Ack(false))
				s.Must(ch.AwaitGet(dead).Ack(false))
			}
			s.Holds(dead, 0)

			s.Title("%s: until there is room", overflow)
			s.Must(ch.Get(q).Ack(false))
			s.Holds(q, 1)
			s.Note("confirms %s", publishAndConfirm(ch, q, 2))

			s.Title("%s: a mandatory message that is rejected is not returned", overflow)
			s.Must(ch.Confirm(false))
			ch.Publish("", q, amqp.Publishing{Body: []byte("m")})
			ch.Event()
			ch.State()
		}
	}},
	{"a-full-quorum-queue-rejects", func(s *Script) {
		// A quorum queue rejects messages only after it has exceeded its limit and notified the channel.
		s.Title("reject-publish")
		ch := s.Channel()
		q := ch.Queue("full", "quorum", amqp.Table{"x-max-length": 5, "x-overflow": "reject-publish"})
		awaitConfirm(ch, q, false)
		s.Note("nacked at last")
		n := s.awaitReady(q, 6)
		s.Note("and 5 fit: %v", n >= 5)

		s.Title("until there is room")
		for range n {
			s.Must(ch.awaitGet(q).Ack(false))
		}
		s.Holds(q, 0)
		awaitConfirm(ch, q, true)
		s.Holds(q, 1)

		s.Title("reject-publish-dlx is drop-head")
		dead := ch.Queue("dead", "quorum", nil)
		q = ch.Queue("dropping", "quorum", with(to(dead), amqp.Table{"x-max-length": 2, "x-overflow": "reject-publish-dlx"}))
		s.Note("confirms %s", publishAndConfirm(ch, q, 4))
		s.Holds(q, 2)
		s.Must(ch.AwaitGet(dead).Ack(false))
		s.Must(ch.AwaitGet(dead).Ack(false))
	}},
	{"one-full-queue-of-two-nacks-the-message", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange("both", "fanout", nil)
		full := ch.Queue("full", "classic", amqp.Table{"x-max-length": 0, "x-overflow": "reject-publish"})
		other := ch.Queue("other", "classic", nil)
		s.Must(ch.QueueBind(full, "", x, false, nil))
		s.Must(ch.QueueBind(other, "", x, false, nil))
		s.Must(ch.Confirm(false))
		ch.Publish(x, "", amqp.Publishing{Body: []byte("m")})
		ch.Event()
		s.Holds(other, 1)
		s.Holds(full, 0)
	}},
	{"unknown-arguments-change-nothing", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := ch.Queue(kind, kind, amqp.Table{"x-foo": 1, "foo": "bar"})
			ch.Store(q, "m")
			s.Must(ch.Get(q).Ack(false))
			s.Try("declared without them", func(ch *Channel) error {
				_, err := ch.QueueDeclare(q, true, false, false, false, amqp.Table{"x-queue-type": kind})
				return err
			})
		}
		s.Title("a lazy queue is a queue")
		q := ch.Queue("lazy", "classic", amqp.Table{"x-queue-mode": "lazy"})
		ch.Store(q, "m")
		s.Must(ch.Get(q).Ack(false))
		s.Try("lazy, and a quorum queue", func(ch *Channel) error {
			_, err := ch.QueueDeclare(s.Name("other"), true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-queue-mode": "lazy"})
			return err
		})
	}},
}

// publishAndConfirm publishes n messages one by one and waits for each confirm. It returns an A for each ack and an N
// for each nack.
func publishAndConfirm(ch *Channel, queue string, n int) string {
	ch.s.tb.Helper()
	other := ch.conn.Open()
	defer other.Close()
	ch.s.Must(other.Confirm(false))
	all := ""
	for i := range n {
		all += confirmed(other, queue, fmt.Sprintf("%d", i+1))
	}
	return all
}

// awaitConfirm publishes until the broker acks a message, or nacks one if ack is false.
func awaitConfirm(ch *Channel, queue string, ack bool) {
	ch.s.tb.Helper()
	other := ch.conn.Open()
	defer other.Close()
	ch.s.Must(other.Confirm(false))
	want := map[bool]string{true: "A", false: "N"}[ack]
	for range 10_000 {
		if confirmed(other, queue, "m") == want {
			return
		}
	}
	ch.s.tb.Fatalf("no message was confirmed with %s", want)
}

func confirmed(ch *Channel, queue, body string) string {
	ch.s.tb.Helper()
	c, err := ch.PublishWithDeferredConfirmWithContext(ch.s.ctx, "", queue, false, false, amqp.Publishing{Body: []byte(body)})
	ch.s.Must(err)
	ok, err := c.WaitContext(ch.s.ctx)
	ch.s.Must(err)
	if ok {
		return "A"
	}
	return "N"
}

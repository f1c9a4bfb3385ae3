package conformance

import (
	"crypto/rand"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var delayedRetries = []Scenario{
	{"types-of-delayed-retry", func(s *Script) {
		for _, kind := range []string{"all", "failed", "returned"} {
			s.Title("%s", kind)
			for _, way := range waysToRequeue {
				if !strings.HasPrefix(way.name, "basic.cancel") {
					s.Note("%s: %s", way.name, retryDelay(s, way, delayed(kind, 60_000, nil)))
				}
			}
		}
	}},
	{"invalid-delayed-retry-arguments", func(s *Script) {
		for _, c := range []struct {
			name string
			args amqp.Table
		}{
			{"disabled", delayed("disabled", 60_000, nil)},
			{"an unknown type", delayed("bogus", 60_000, nil)},
			{"no type", amqp.Table{"x-delayed-retry-min": 60_000}},
			{"no min", amqp.Table{"x-delayed-retry-type": "all", "x-delayed-retry-max": 60_000}},
			{"min 0", delayed("all", 0, nil)},
			{"a negative min", delayed("all", -1, nil)},
			{"min as a string", delayed("all", "60000", nil)},
			{"a type that is not a string", delayed(1, 60_000, nil)},
		} {
			s.Note("%s: %s", c.name, retryDelay(s, waysToRequeue[0], c.args))
		}
		s.Title("and values that stand for one")
		s.Note("max below min: %s", retryDelay(s, waysToRequeue[0], delayed("all", 60_000, 1)))
		s.Note("max as a string: %s", retryDelay(s, waysToRequeue[0], delayed("all", 60_000, "1")))
		s.Note("int32: %s", retryDelay(s, waysToRequeue[0], delayed("all", int32(60_000), int32(60_000))))
	}},
	{"delays-grow-with-failures", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", delayed("all", 400, 700))
		ch.Store(q, "m")
		s.Must(rejectRequeue(ch.Get(q)))
		ch.Get(q)
		s.Pass(500 * ms)
		s.Must(rejectRequeue(ch.Get(q)))
		ch.Sync()
		s.Title("twice as long, but not longer than max")
		s.Pass(500 * ms)
		ch.Get(q)
		s.Pass(300 * ms)
		s.Must(nackRequeue(ch.Get(q)))
		ch.Sync()
		s.Title("a nack waits as long as the failures before it have it wait")
		s.Pass(500 * ms)
		ch.Get(q)
		s.Pass(300 * ms)
		s.Must(ch.Get(q).Ack(false))
	}},
	{"without-max-delays-do-not-grow", func(s *Script) {
		ch := s.Channel()
		for _, c := range []struct {
			name string
			most any
		}{{"no max", nil}, {"max below min", 1}} {
			s.Title("%s", c.name)
			q := ch.Queue(c.name, "quorum", delayed("failed", 200, c.most))
			ch.Store(q, "m")
			for range 3 {
				s.Must(rejectRequeue(ch.Get(q)))
				ch.Sync()
				s.Pass(300 * ms)
			}
			s.Must(ch.Get(q).Ack(false))
		}
	}},
	{"a-delayed-retry-frees-the-prefetch", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", delayed("all", 60_000, nil))
		ch.Store(q, "m")
		s.Must(nackRequeue(ch.Get(q)))
		ch.Get(q)
		s.Holds(q, 0)
		n, err := ch.QueuePurge(q, false)
		s.Must(err)
		s.Note("%d purged", n)

		s.Title("others go ahead, and the prefetch is free for them")
		s.Must(ch.Qos(1, 0, false))
		ch.Store(q, "a", "b")
		c := ch.Subscribe(q, "c")
		s.Must(nackRequeue(c.Next()))
		s.Must(c.Next().Ack(false))
	}},
	{"delayed-retries-keep-their-order", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", delayed("all", 300, nil))
		ch.Store(q, "a", "b", "c")
		ch.Get(q)
		ch.Get(q)
		s.Must(ch.Get(q).Nack(true, true))
		ch.Sync()
		s.Pass(400 * ms)
		getAll(ch, q, 3)
	}},
	{"delayed-retry-breaks-the-order-of-a-single-active-consumer", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", with(single, delayed("all", 300, nil)))
		ch.Store(q, "a", "b")
		s.Must(ch.Qos(1, 0, false))
		c := ch.Subscribe(q, "c")
		s.Must(nackRequeue(c.Next()))
		s.Must(c.Next().Ack(false))
		ch.Sync()
		s.Pass(300 * ms)
		s.Must(c.Next().Ack(false))
	}},
	{"messages-over-the-delivery-limit-are-not-delayed", func(s *Script) {
		ch := s.Channel()
		dead := ch.Queue("dead", "quorum", nil)
		q := ch.Queue("work", "quorum", with(limit(0), to(dead), delayed("all", 60_000, nil)))
		ch.Store(q, "m")
		s.Must(rejectRequeue(ch.Get(q)))
		s.Must(ch.AwaitGet(dead).Ack(false))
	}},
	{"delayed-messages-expire-after-the-delay", func(s *Script) {
		ch := s.Channel()
		dead := ch.Queue("dead", "quorum", nil)
		q := ch.Queue("work", "quorum", with(to(dead), delayed("all", 900, nil), amqp.Table{"x-message-ttl": 300}))
		ch.Store(q, "m")
		d := ch.Get(q)
		s.Must(nackRequeue(d))
		ch.Sync()
		s.Pass(500 * ms)
		ch.Get(dead)
		s.Pass(400 * ms)
		s.Must(ch.AwaitGet(dead).Ack(false))
	}},
	{"delayed-messages-count-towards-max-length", func(s *Script) {
		ch := s.Channel()
		dead := ch.Queue("dead", "quorum", nil)
		q := ch.Queue("work", "quorum", with(to(dead), delayed("all", 300, nil), amqp.Table{"x-max-length": 2}))
		ch.Store(q, "a")
		s.Must(nackRequeue(ch.Get(q)))
		ch.Sync()
		ch.Store(q, "b", "c")
		s.Pass(500 * ms)
		for _, name := range []string{dead, q, q} {
			ch.Get(name)
		}
	}},
	{"queue-delete-does-not-count-delayed-messages", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", delayed("all", 60_000, nil))
		ch.Store(q, "a", "b", "c")
		s.Must(nackRequeue(ch.Get(q)))
		ch.Get(q)
		n, err := ch.QueueDelete(q, false, false, false)
		s.Must(err)
		s.Note("%d deleted", n)
	}},
	{"delayed-retry-is-for-quorum-queues", func(s *Script) {
		for _, name := range []string{"x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max"} {
			v := delayed("all", 500, 2000)[name]
			s.Try("a classic queue with "+name, func(ch *Channel) error {
				_, err := ch.QueueDeclare(s.Name("classic"), true, false, false, false, amqp.Table{"x-queue-type": "classic", name: v})
				return err
			})
		}
	}},
}

// delayed returns the queue arguments of a delayed retry. If most is nil, x-delayed-retry-max is not set.
func delayed(kind, least, most any) amqp.Table {
	args := amqp.Table{"x-delayed-retry-type": kind, "x-delayed-retry-min": least}
	if most != nil {
		args["x-delayed-retry-max"] = most
	}
	return args
}

// retryDelay reports whether a requeued message can be delivered again at once, or later.
func retryDelay(s *Script, way requeueWay, args amqp.Table) string {
	s.tb.Helper()
	other, ch := s.Channel(), s.Channel()
	defer other.conn.Close()
	defer ch.conn.Close()
	q := other.Queue("work-"+rand.Text(), "quorum", args)
	other.Store(q, "m")
	s.Must(ch.Qos(1, 0, false))
	c := ch.Subscribe(q, "c")
	d, _ := c.take()
	if way.ends {
		s.Must(way.act(ch, d))
		return map[bool]string{true: "at once", false: "later"}[s.readyWithoutConsumers(q) == 1]
	}
	// A requeued message is delivered before one that was never delivered, unless it is delayed.
	other.Store(q, "never delivered")
	s.Must(way.act(ch, d))
	d, _ = c.take()
	return map[bool]string{true: "at once", false: "later"}[string(d.Body) == "m"]
}

// readyWithoutConsumers waits until the queue has no consumers and returns the number of ready messages.
func (s *Script) readyWithoutConsumers(queue string) int {
	s.tb.Helper()
	ch := s.Channel()
	defer ch.conn.Close()
	for end := time.Now().Add(eventTimeout); ; time.Sleep(ms) {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		s.Must(err)
		if q.Consumers == 0 {
			return q.Messages
		}
		if time.Now().After(end) {
			s.tb.Fatalf("%s still has %d consumers", queue, q.Consumers)
		}
	}
}

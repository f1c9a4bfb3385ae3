package conformance

import (
	"fmt"
	"maps"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var deliveryLimits = []Scenario{
	{"delivery-limit-of-a-quorum-queue", func(s *Script) {
		ch := s.Channel()
		for _, c := range []struct {
			name  string
			limit any
		}{{"none", nil}, {"0", 0}, {"1", 1}, {"3", 3}, {"the string 3", "3"}, {"-1", -1}} {
			q := ch.Queue("limit "+c.name, "quorum", limit(c.limit))
			ch.Store(q, "m")
			s.Note("x-delivery-limit %s: rejected, %s", c.name, deliveries(s, q, rejectRequeue))
		}
	}},
	{"only-failures-count-against-the-delivery-limit", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("limited", "quorum", limit(2))
		ch.Store(q, "m")
		s.Note("x-delivery-limit 2: nacked, %s", deliveries(s, q, nackRequeue))
	}},
	{"messages-over-the-delivery-limit-are-dead-lettered", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("to a %s queue", kind)
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue("work-"+kind, "quorum", with(limit(1), to(dead)))
			ch.Store(q, "m")
			c := s.Channel().Subscribe(q, "c")
			s.Must(rejectRequeue(c.Next()))
			s.Must(rejectRequeue(c.Next()))
			s.Must(ch.AwaitGet(dead).Ack(false))
		}
	}},
	{"dead-letters-keep-their-counts", func(s *Script) {
		ch := s.Channel()
		for _, way := range waysToDiscard {
			s.Title("%s without requeue", way.name)
			dead := ch.Queue("dead by "+way.name, "quorum", limit(3))
			q := ch.Queue("work by "+way.name, "quorum", to(dead))
			ch.Store(q, "m")
			s.Must(way.act(ch.Get(q)))
			s.Must(nackRequeue(ch.AwaitGet(dead)))
			s.Must(nackRequeue(ch.AwaitGet(dead)))
			s.Note("in dead, limit 3: rejected, %s", deliveries(s, dead, rejectRequeue))
		}
	}},
	{"a-dead-letter-queue-continues-the-delivery-count", func(s *Script) {
		ch := s.Channel()
		for _, c := range []struct {
			name, kind string
			limit      any
			done       string
			act        func(amqp.Delivery) error
		}{
			{"limit-5", "quorum", 5, "rejected", rejectRequeue},
			{"limit-2", "quorum", 2, "rejected", rejectRequeue},
			{"limit-2-as-well", "quorum", 2, "nacked", nackRequeue},
			{"no-limit", "quorum", -1, "rejected", rejectRequeue},
			{"classic", "classic", nil, "rejected", rejectRequeue},
		} {
			s.Title("to a queue %s", c.name)
			dead := ch.Queue(c.name, c.kind, limit(c.limit))
			q := ch.Queue("source-of-"+c.name, "quorum", with(limit(2), to(dead)))
			ch.Store(q, "m")
			s.Note("in its source, limit 2: rejected, %s", deliveries(s, q, rejectRequeue))
			s.Note("there: %s, %s", c.done, deliveries(s, dead, c.act))
		}
	}},
	{"a-requeued-dead-letter-over-the-limit-is-dead-lettered-again", func(s *Script) {
		ch := s.Channel()
		last := ch.Queue("last", "quorum", nil)
		dead := ch.Queue("dead", "quorum", with(limit(2), to(last)))
		q := ch.Queue("work", "quorum", with(limit(2), to(dead)))
		ch.Store(q, "m")
		s.Note("in work: rejected, %s", deliveries(s, q, rejectRequeue))
		s.Must(nackRequeue(ch.AwaitGet(dead)))
		s.Must(ch.AwaitGet(last).Ack(false))
	}},
	{"a-cycle-with-rejections-ignores-the-delivery-limit", func(s *Script) {
		ch := s.Channel()
		for _, way := range waysToDiscard {
			s.Title("%s without requeue, limit 1", way.name)
			wait := ch.Queue("wait by "+way.name, "quorum", with(amqp.Table{"x-message-ttl": 1}, to(s.Name("work by "+way.name))))
			work := ch.Queue("work by "+way.name, "quorum", with(limit(1), to(wait)))
			ch.Store(work, "m")
			for n := range 4 {
				d := ch.awaitGet(work)
				s.Note("delivery %d: x-delivery-count %v, x-acquired-count %v", n+1, d.Headers["x-delivery-count"], d.Headers["x-acquired-count"])
				s.Must(way.act(d))
				ch.Sync()
				s.Pass(time.Millisecond)
			}
			s.Must(ch.AwaitGet(work).Ack(false))
		}
	}},
}

func limit(v any) amqp.Table {
	if v == nil {
		return nil
	}
	return amqp.Table{"x-delivery-limit": v}
}

// to returns the arguments of a queue that dead-letters to another queue.
func to(queue string) amqp.Table {
	return amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
}

// with merges tables. Later ones override earlier ones.
func with(tables ...amqp.Table) amqp.Table {
	all := amqp.Table{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

// waysToDiscard are the ways to settle a delivery without requeue.
var waysToDiscard = []struct {
	name string
	act  func(amqp.Delivery) error
}{
	{"basic.reject", rejectDiscard},
	{"basic.nack", func(d amqp.Delivery) error { return d.Nack(false, false) }},
}

func rejectDiscard(d amqp.Delivery) error { return d.Reject(false) }

// deliveries reports how often a queue delivers a message that back requeues each time. A second message behind it shows
// that the queue no longer delivers the first one.
func deliveries(s *Script, queue string, back func(amqp.Delivery) error) string {
	s.tb.Helper()
	ch := s.Channel()
	defer ch.conn.Close()
	s.awaitReady(queue, 1)
	ch.Store(queue, "behind")
	s.Must(ch.Qos(1, 0, false))
	c := ch.Subscribe(queue, "c")
	for n := range 40 {
		d, _ := c.take()
		if string(d.Body) == "behind" {
			return fmt.Sprintf("it is delivered %d times", n)
		}
		s.Must(back(d))
	}
	return "it is delivered 40 times, and on"
}

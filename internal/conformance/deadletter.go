package conformance

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var deadLetters = []Scenario{
	{"x-death-on-classic-queues", func(s *Script) { cycleTwice(s, "classic") }},
	{"x-death-on-quorum-queues", func(s *Script) { cycleTwice(s, "quorum") }},
	{"a-published-x-death-is-replaced-at-the-next-death", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue("work-"+kind, kind, to(dead))
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("m"), Headers: amqp.Table{
				"own": "kept",
				"x-death": []any{amqp.Table{
					"queue": q, "reason": "rejected", "count": int64(5), "exchange": "", "routing-keys": []any{q}, "time": time.Unix(0, 0),
				}},
				"x-first-death-queue": "forged", "x-first-death-reason": "forged", "x-first-death-exchange": "forged",
			}})
			s.Must(rejectDiscard(ch.Get(q)))
			s.Must(ch.AwaitGet(dead).Ack(false))
		}
	}},
	{"republishing-starts-a-new-x-death", func(s *Script) {
		ch := s.Channel()
		dead := ch.Queue("dead", "quorum", nil)
		q := ch.Queue("work", "quorum", to(dead))
		ch.Store(q, "m")
		s.Must(rejectDiscard(ch.Get(q)))
		d := ch.AwaitGet(dead)
		s.Must(d.Ack(false))
		ch.StoreMessage(q, amqp.Publishing{Body: d.Body, Headers: d.Headers})
		s.Must(rejectDiscard(ch.Get(q)))
		s.Must(ch.AwaitGet(dead).Ack(false))
	}},
	{"x-death-keeps-the-time-of-the-first-death", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", amqp.Table{"x-dead-letter-exchange": ""})
		ch.Store(q, "m")
		s.Must(rejectDiscard(ch.awaitGet(q)))
		var times []any
		for range 2 {
			d := ch.awaitGet(q)
			death := d.Headers["x-death"].([]any)[0].(amqp.Table)
			times = append(times, death["time"])
			s.Note("count %v", death["count"])
			s.Pass(1100 * ms)
			s.Must(rejectDiscard(d))
		}
		s.Note("the same time: %v", times[0] == times[1])
	}},
	{"cycles-without-a-rejection-drop-the-message", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			for _, reason := range []string{"expired", "maxlen", "delivery_limit", "rejected"} {
				if kind == "classic" && reason == "delivery_limit" {
					continue
				}
				s.Title("%s: %s in work, expired in wait", kind, reason)
				cycle(s, kind, reason)
			}
		}
	}},
	{"in-a-cycle-the-limit-applies-at-the-next-requeue", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange("x", "fanout", nil)
		log := ch.Queue("log", "classic", nil)
		wait := ch.Queue("wait", "quorum", amqp.Table{"x-message-ttl": 1, "x-dead-letter-exchange": x})
		work := ch.Queue("work", "quorum", with(limit(1), to(wait)))
		s.Must(ch.QueueBind(log, "", x, false, nil))
		s.Must(ch.QueueBind(work, "", x, false, nil))
		ch.Store(work, "m")
		for range 2 {
			s.Must(rejectDiscard(ch.awaitGet(work)))
			ch.Sync()
			s.Pass(ms)
			d := ch.awaitGet(log)
			s.Note("in log: x-death %s", value(d.Headers["x-death"]))
		}
		d := ch.awaitGet(work)
		s.Note("in work: x-delivery-count %v, limit 1", d.Headers["x-delivery-count"])
		s.Must(rejectRequeue(d))
		s.Holds(work, 0)

		s.Title("it is gone: it was in wait before, with no rejection since")
		ch.Store(wait, "behind")
		s.Pass(ms)
		s.Must(ch.AwaitGet(log).Ack(false))
	}},
	{"a-queue-that-dead-letters-to-itself", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, amqp.Table{"x-dead-letter-exchange": ""})
			ch.Store(q, "m")
			s.Must(rejectDiscard(ch.Get(q)))
			s.Must(rejectDiscard(ch.AwaitGet(q)))
			s.Must(ch.AwaitGet(q).Ack(false))
		}
	}},
}

// cycleTwice moves a message twice through a cycle of three queues. It is rejected in the first queue and expires in the
// others.
func cycleTwice(s *Script, kind string) {
	ch := s.Channel()
	wait2 := ch.Queue("wait2", kind, with(amqp.Table{"x-message-ttl": 1}, to(s.Name("work"))))
	x := ch.Exchange("x", "fanout", nil)
	wait1 := ch.Queue("wait1", kind, with(amqp.Table{"x-message-ttl": 1}, to(wait2)))
	s.Must(ch.QueueBind(wait1, "", x, false, nil))
	work := ch.Queue("work", kind, amqp.Table{"x-dead-letter-exchange": x}) // the routing key does not change
	ch.StoreMessage(work, amqp.Publishing{Body: []byte("m"), Expiration: "60000", Headers: amqp.Table{"own": "kept"}})
	for range 2 {
		d := ch.AwaitGet(work)
		s.Must(d.Nack(false, false))
		ch.Sync()
		s.Pass(time.Millisecond)
		s.Pass(time.Millisecond)
	}
	s.Must(ch.AwaitGet(work).Ack(false))
}

// cycle dead-letters a message for the given reason from work to wait. It expires in wait and is routed to work and log.
func cycle(s *Script, kind, reason string) {
	ch := s.Channel()
	id := kind + "-" + reason
	x := ch.Exchange("x-"+id, "fanout", nil)
	log := ch.Queue("log-"+id, kind, nil)
	wait := ch.Queue("wait-"+id, kind, amqp.Table{"x-message-ttl": 1, "x-dead-letter-exchange": x})
	args := to(wait)
	switch reason {
	case "maxlen":
		args["x-max-length"] = 0
	case "delivery_limit":
		args["x-delivery-limit"] = 0
	}
	work := ch.Queue("work-"+id, kind, args)
	s.Must(ch.QueueBind(log, "", x, false, nil))
	s.Must(ch.QueueBind(work, "", x, false, nil))
	m := amqp.Publishing{Body: []byte("m")}
	if reason == "expired" {
		m.Expiration = "1"
	}
	ch.StoreMessage(work, m)
	switch reason {
	case "expired":
		s.Pass(time.Millisecond)
	case "delivery_limit":
		s.Must(rejectRequeue(ch.awaitGet(work)))
	case "rejected":
		s.Must(rejectDiscard(ch.awaitGet(work)))
	}
	ch.Sync()
	s.Pass(time.Millisecond)
	d := ch.awaitGet(log)
	s.Note("%s: x-death %s", log, value(d.Headers["x-death"]))
	if reason == "rejected" {
		s.Must(ch.awaitGet(work).Ack(false))
		s.Note("and in work again")
		return
	}
	s.Holds(work, 0)
}

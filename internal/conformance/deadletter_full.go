package conformance

import amqp "github.com/rabbitmq/amqp091-go"

var fullDeadLetterQueues = []Scenario{
	{"a-full-dead-letter-queue", func(s *Script) {
		for _, from := range []string{"classic", "quorum"} {
			for _, kind := range []string{"classic", "quorum"} {
				for _, overflow := range []string{"drop-head", "reject-publish"} {
					ch := s.Channel()
					id := from + " to " + kind + ", " + overflow
					dead := ch.Queue("dead, "+id, kind, amqp.Table{"x-max-length": 1, "x-overflow": overflow})
					q := ch.Queue(id, from, to(dead))
					for range 4 {
						ch.Store(q, "m")
						s.Must(rejectDiscard(ch.awaitGet(q)))
						ch.Sync()
						s.awaitReady(q, 0)
					}
					fit := 1
					if kind == "quorum" && overflow == "reject-publish" {
						fit = 4 // it rejects only messages published with confirms, not dead letters
					}
					s.Holds(dead, fit)
				}
			}
		}
	}},
	{"redelivered-flag-of-rejected-messages", func(s *Script) {
		for _, from := range []string{"classic", "quorum"} {
			for _, kind := range []string{"classic", "quorum"} {
				s.Title("%s to %s", from, kind)
				ch := s.Channel()
				dead := ch.Queue("dead, "+from+" to "+kind, kind, nil)
				q := ch.Queue(from+" to "+kind, from, to(dead))
				s.Must(ch.Qos(1, 0, false))
				c := ch.Subscribe(dead, "c")
				ch.Store(q, "finds it waiting", "does not")
				s.Must(rejectDiscard(ch.awaitGet(q)))
				d := c.Next()
				s.Must(rejectDiscard(ch.awaitGet(q)))
				s.Holds(dead, 1)
				s.Must(d.Ack(false))
				s.Must(nackRequeue(c.Next()))
				s.Must(c.Next().Ack(false))
			}
		}
	}},
	{"an-internal-exchange-accepts-dead-letters", func(s *Script) {
		ch := s.Channel()
		x := s.Name("internal")
		s.Must(ch.ExchangeDeclare(x, "fanout", true, false, true, false, nil))
		dead := ch.Queue("dead", "quorum", nil)
		s.Must(ch.QueueBind(dead, "", x, false, nil))
		q := ch.Queue("work", "quorum", amqp.Table{"x-dead-letter-exchange": x})
		ch.Store(q, "m")
		s.Must(rejectDiscard(ch.Get(q)))
		s.Must(ch.AwaitGet(dead).Ack(false))
	}},
}

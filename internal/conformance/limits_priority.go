package conformance

import amqp "github.com/rabbitmq/amqp091-go"

var priorities = []Scenario{
	{"priorities-of-a-classic-queue", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("five", "classic", amqp.Table{"x-max-priority": 5})
		for _, m := range []struct {
			body     string
			priority uint8
		}{{"none", 0}, {"1", 1}, {"5", 5}, {"none again", 0}, {"9 is as good as 5", 9}, {"3", 3}, {"5 again", 5}} {
			ch.StoreMessage(q, amqp.Publishing{Body: []byte(m.body), Priority: m.priority})
		}
		getAll(ch, q, 7)

		s.Title("without x-max-priority there are none")
		q = ch.Queue("plain", "classic", nil)
		ch.StoreMessage(q, amqp.Publishing{Body: []byte("1"), Priority: 1})
		ch.StoreMessage(q, amqp.Publishing{Body: []byte("9"), Priority: 9})
		getAll(ch, q, 2)
	}},
	{"priorities-of-a-quorum-queue", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("quorum", "quorum", nil)
		for _, m := range []struct {
			body     string
			priority uint8
		}{{"none", 0}, {"1", 1}, {"5", 5}, {"4", 4}, {"none again", 0}, {"9", 9}, {"31", 31}, {"200", 200}, {"5 again", 5}} {
			ch.StoreMessage(q, amqp.Publishing{Body: []byte(m.body), Priority: m.priority})
		}
		getAll(ch, q, 9)
	}},
	{"requeued-messages-keep-their-priority", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := ch.Queue(kind, kind, fivePriorities(kind))
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("low"), Priority: 1})
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("low behind"), Priority: 1})
			s.Must(nackRequeue(ch.Get(q)))
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("high"), Priority: 5})
			getAll(ch, q, 3)
		}
	}},
	{"a-full-priority-queue-drops-the-highest-priority", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := ch.Queue(kind, kind, with(amqp.Table{"x-max-length": 2}, fivePriorities(kind)))
			for _, p := range []uint8{1, 5, 3} {
				ch.StoreMessage(q, amqp.Publishing{Body: []byte{'0' + p}, Priority: p})
			}
			s.Holds(q, 2)
			getAll(ch, q, 2)
		}
	}},
	{"low-priorities-expire-behind-high-ones-in-quorum-queues-only", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			dead := ch.Queue("dead-"+kind, kind, nil)
			q := ch.Queue(kind, kind, with(to(dead), fivePriorities(kind)))
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("high, stays"), Priority: 5})
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("low, expires"), Priority: 1, Expiration: "1"})
			s.Pass(50 * ms)
			if kind == "quorum" {
				s.Must(ch.AwaitGet(dead).Ack(false))
				getAll(ch, q, 1)
				continue
			}
			s.Holds(q, 2)
			ch.Get(dead)
			getAll(ch, q, 1)
			s.Must(ch.AwaitGet(dead).Ack(false))
		}
	}},
}

// fivePriorities returns the arguments of a queue with priorities up to 5. A quorum queue needs none for them.
func fivePriorities(kind string) amqp.Table {
	if kind == "quorum" {
		return nil
	}
	return amqp.Table{"x-max-priority": 5}
}

// getAll gets n messages from a queue and acknowledges them.
func getAll(ch *Channel, queue string, n int) {
	ch.s.tb.Helper()
	for range n {
		ch.s.Must(ch.AwaitGet(queue).Ack(false))
	}
}

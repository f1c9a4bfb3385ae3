package conformance

import amqp "github.com/rabbitmq/amqp091-go"

var counts = []Scenario{
	{"redelivery-from-a-classic-queue", func(s *Script) { requeueEveryWay(s, "classic") }},
	{"redelivery-from-a-quorum-queue", func(s *Script) { requeueEveryWay(s, "quorum") }},
	{"counts-of-a-quorum-queue-add-up", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", nil)
		ch.Store(q, "m")
		c := ch.Subscribe(q, "c")
		for _, back := range []func(amqp.Delivery) error{nackRequeue, rejectRequeue, nackRequeue, rejectRequeue} {
			s.Must(back(c.Next()))
		}
		s.Must(c.Next().Ack(false))
	}},
	{"unread-deliveries-are-redelivered", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch, other := s.Channel(), s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "a", "b", "c")
			ch.Subscribe(q, "c").Next()
			s.Holds(q, 0)
			ch.conn.Cut()
			s.Holds(q, 3)
			for range 3 {
				other.Get(q)
			}
		}
	}},
	{"acks-before-a-cancel-are-kept", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s: 300 acks, then cancel, then close", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			for _, d := range deliverMany(ch, q) {
				s.Must(d.Ack(false))
			}
			s.Must(ch.Cancel("c", false))
			s.Must(ch.Close())
			s.Holds(q, 0)

			s.Title("%s: one ack for all 300, then close", kind)
			ch = s.Channel()
			all := deliverMany(ch, q)
			s.Must(all[len(all)-1].Ack(true))
			s.Must(ch.Close())
			s.Holds(q, 0)
		}
	}},
	{"published-counts-are-ignored", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := ch.Queue(kind, kind, nil)
			forged := amqp.Table{"x-delivery-count": int64(9), "x-acquired-count": int64(9)}
			ch.StoreMessage(q, amqp.Publishing{Body: []byte("m"), Headers: forged})
			c := s.Channel().Subscribe(q, "c")
			s.Must(nackRequeue(c.Next()))
			s.Must(rejectRequeue(c.Next()))
			s.Must(c.Next().Ack(false))
		}
	}},
}

// A wayBack is a way to requeue a delivery.
type requeueWay struct {
	name string
	act  func(ch *Channel, d amqp.Delivery) error
	ends bool // reports whether it also closes or cancels the consumer
}

var waysToRequeue = []requeueWay{
	{"basic.nack", func(_ *Channel, d amqp.Delivery) error { return nackRequeue(d) }, false},
	{"basic.nack of several", func(_ *Channel, d amqp.Delivery) error { return d.Nack(true, true) }, false},
	{"basic.reject", func(_ *Channel, d amqp.Delivery) error { return rejectRequeue(d) }, false},
	{"basic.recover", func(ch *Channel, _ amqp.Delivery) error { return ch.Recover(true) }, false},
	{"channel.close", func(ch *Channel, _ amqp.Delivery) error { return ch.Close() }, true},
	{"connection.close", func(ch *Channel, _ amqp.Delivery) error { return ch.conn.Close() }, true},
	{"the socket is cut", func(ch *Channel, _ amqp.Delivery) error { ch.conn.Cut(); return nil }, true},
	{"the broker closes the channel", func(ch *Channel, _ amqp.Delivery) error { return ch.Ack(77, false) }, true},
	{"basic.cancel, then basic.nack", func(ch *Channel, d amqp.Delivery) error {
		ch.s.Must(ch.Cancel("c", false))
		return nackRequeue(d)
	}, true},
	{"basic.cancel, then channel.close", func(ch *Channel, _ amqp.Delivery) error {
		ch.s.Must(ch.Cancel("c", false))
		return ch.Close()
	}, true},
}

func nackRequeue(d amqp.Delivery) error   { return d.Nack(false, true) }
func rejectRequeue(d amqp.Delivery) error { return d.Reject(true) }

// requeueEveryWay requeues a message in every way, first as the delivery of a consumer, then as the answer to basic.get.
func requeueEveryWay(s *Script, kind string) {
	other := s.Channel()
	q := other.Queue("work", kind, nil)
	for _, way := range waysToRequeue {
		s.Title("%s", way.name)
		other.Store(q, "m")
		ch := s.Channel()
		c := ch.Subscribe(q, "c")
		s.Must(way.act(ch, c.Next()))
		if way.ends {
			s.Must(other.AwaitGet(q).Ack(false))
			continue
		}
		s.Must(c.Next().Ack(false))
		s.Must(ch.Cancel("c", false))
	}
	for _, way := range []requeueWay{waysToRequeue[0], waysToRequeue[2], waysToRequeue[4]} {
		s.Title("basic.get, then %s", way.name)
		other.Store(q, "m")
		ch := s.Channel()
		s.Must(way.act(ch, ch.Get(q)))
		s.Must(other.AwaitGet(q).Ack(false))
	}
}

// deliverMany starts a consumer with the tag c and returns 300 unsettled deliveries.
func deliverMany(ch *Channel, queue string) []amqp.Delivery {
	ch.s.tb.Helper()
	var many []amqp.Delivery
	c := ch.Subscribe(queue, "c")
	for range 300 {
		ch.Publish("", queue, amqp.Publishing{Body: []byte("m")})
	}
	for range 300 {
		d, _ := c.take()
		many = append(many, d)
	}
	return many
}

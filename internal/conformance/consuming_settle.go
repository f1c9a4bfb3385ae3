package conformance

var settling = []Scenario{
	{"several-acks-at-once", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2", "3", "4", "5", "6", "7", "8")
			for range 8 {
				_, ok, err := ch.Channel.Get(q, false)
				s.Must(err)
				s.Note("got one: %v", ok)
			}
			s.Note("nack 2 alone, reject 5")
			s.Must(ch.Nack(2, false, false))
			s.Must(ch.Reject(5, false))
			s.Note("ack up to 3")
			s.Must(ch.Ack(3, true))
			s.Note("nack up to 6, back to the queue")
			s.Must(ch.Nack(6, true, true))
			s.Holds(q, 2)
			s.Note("ack all")
			s.Must(ch.Ack(0, true))
			ch.State()
			s.Note("ack all of none")
			s.Must(ch.Ack(0, true))
			ch.State()
			s.Must(ch.Nack(0, true, true))
			ch.State()
			s.Holds(q, 2)
			ch.Get(q)
			ch.Get(q)
			ch.Get(q)
		}
	}},
	{"invalid-delivery-tags", func(s *Script) {
		s.Try("ack of tag 0 alone", func(ch *Channel) error { return ch.Ack(0, false) })
		s.Try("ack up to a tag that was never delivered", func(ch *Channel) error { return ch.Ack(77, true) })
		s.Try("nack of a tag that was never delivered", func(ch *Channel) error { return ch.Nack(77, false, true) })
		s.Try("nack up to a tag that was never delivered", func(ch *Channel) error { return ch.Nack(77, true, true) })
		s.Try("reject of a tag that was never delivered", func(ch *Channel) error { return ch.Reject(77, true) })
		s.Try("reject of tag 0", func(ch *Channel) error { return ch.Reject(0, true) })
		s.Try("ack up to a tag that was acked, others unsettled", func(ch *Channel) error {
			q := ch.Queue("gap", "classic", nil)
			ch.Store(q, "1", "2", "3")
			for range 3 {
				ch.Get(q)
			}
			s.Must(ch.Ack(2, false))
			return ch.Ack(2, true)
		})
		s.Try("ack on a channel other than the delivery's", func(ch *Channel) error {
			q := ch.Queue("work", "classic", nil)
			ch.Store(q, "m")
			d := ch.conn.Open().Get(q)
			return ch.Ack(d.DeliveryTag, false)
		})
		s.Try("ack after a nack", func(ch *Channel) error {
			q := ch.Queue("nacked", "quorum", nil)
			ch.Store(q, "m")
			d := ch.Get(q)
			s.Must(d.Nack(false, true))
			return d.Ack(false)
		})
	}},
	{"delivery-tags-count-all-deliveries-of-a-channel", func(s *Script) {
		ch := s.Channel()
		q, p := ch.Queue("q", "classic", nil), ch.Queue("p", "quorum", nil)
		ch.Store(q, "1", "2", "3")
		ch.Store(p, "4")
		d := ch.Get(q)
		s.Note("tag %d", d.DeliveryTag)
		d, _, err := ch.Channel.Get(q, true)
		s.Must(err)
		s.Note("tag %d, acknowledged automatically", d.DeliveryTag)
		ch.Subscribe(q, "a").Next()
		ch.Subscribe(p, "b").Next()
		s.Note("ack up to 4, of two queues")
		s.Must(ch.Ack(4, true))
		s.Must(ch.Cancel("a", false))
		s.Must(ch.Cancel("b", false))
		s.Holds(q, 0)
		s.Holds(p, 0)
	}},
	{"order-of-requeued-messages", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			take := func(ch *Channel, q string, n int) {
				for range n {
					ch.Get(q)
				}
			}
			s.Title("%s: one by one, the later first", kind)
			ch := s.Channel()
			q := ch.Queue(kind+" 1", kind, nil)
			ch.Store(q, "1", "2", "3", "4", "5")
			take(ch, q, 3)
			s.Must(ch.Nack(3, false, true))
			s.Must(ch.Nack(1, false, true))
			s.Holds(q, 4)
			take(ch, q, 4)

			s.Title("%s: several at once", kind)
			ch = s.Channel()
			q = ch.Queue(kind+" 2", kind, nil)
			ch.Store(q, "1", "2", "3", "4")
			take(ch, q, 3)
			s.Must(ch.Nack(3, true, true))
			s.Holds(q, 4)
			take(ch, q, 4)

			s.Title("%s: by the end of the channel", kind)
			ch = s.Channel()
			q = ch.Queue(kind+" 3", kind, nil)
			ch.Store(q, "1", "2", "3", "4")
			take(ch, q, 3)
			s.Must(ch.Nack(2, false, true))
			s.Holds(q, 2)
			s.Must(ch.Close())
			s.Holds(q, 4)
			take(s.Channel(), q, 4)
		}
	}},
	{"deliveries-keep-the-order-of-publishing", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			s.Must(ch.Qos(3, 0, false))
			a := ch.Subscribe(q, "a")
			ch.Store(q, "1", "2", "3", "4", "5", "6", "7")
			for range 7 {
				d := a.Next()
				s.Must(d.Ack(false))
			}
		}
	}},
	{"cancel-ends-deliveries-and-settles-nothing", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2", "3", "4")
			s.Must(ch.Qos(3, 0, false))
			a := ch.Subscribe(q, "a")
			d := a.Next()
			back := a.Next()
			a.Next()
			s.Must(ch.Cancel("a", false))
			a.Next()
			s.Holds(q, 1)
			s.Note("ack and return after the cancel")
			s.Must(d.Ack(false))
			s.Must(back.Nack(false, true))
			s.Holds(q, 2)
			s.Note("the rest returns when the channel closes")
			s.Must(ch.Close())
			s.Holds(q, 3)
			other := s.Channel()
			for range 3 {
				other.Get(q)
			}
		}
	}},
	{"basic-recover", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2", "3")
			s.Must(ch.Qos(2, 0, false))
			a := ch.Subscribe(q, "a")
			d := a.Next()
			a.Next()
			s.Must(ch.Recover(true))
			s.Note("recovered")
			a.Next()
			a.Next()
			s.Holds(q, 1)
			s.Note("ack of a recovered delivery")
			s.Must(d.Ack(false))
			ch.Event()
		}
		s.Title("without requeue")
		s.Try("recover", func(ch *Channel) error { return ch.Recover(false) })
		s.Title("nothing to recover")
		s.Try("recover", func(ch *Channel) error { return ch.Recover(true) })
	}},
	{"a-rejected-message-is-discarded", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2")
			d := ch.Get(q)
			s.Must(d.Reject(false))
			d = ch.Get(q)
			s.Must(d.Nack(false, false))
			s.Must(ch.Close())
			s.Holds(q, 0)
		}
	}},
}

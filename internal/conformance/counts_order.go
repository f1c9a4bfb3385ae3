package conformance

import amqp "github.com/rabbitmq/amqp091-go"

var requeueOrders = []Scenario{
	{"positions-of-requeued-messages", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			for _, way := range []struct {
				name string
				act  func(ch *Channel, a, b, c amqp.Delivery)
			}{
				{"the third, the first and the second of four, one by one", func(_ *Channel, a, b, c amqp.Delivery) {
					for _, d := range []amqp.Delivery{c, a, b} {
						s.Must(nackRequeue(d))
					}
				}},
				{"three of four at once", func(_ *Channel, _, _, c amqp.Delivery) { s.Must(c.Nack(true, true)) }},
				{"basic.recover of three", func(ch *Channel, _, _, _ amqp.Delivery) { s.Must(ch.Recover(true)) }},
				{"channel.close with three", func(ch *Channel, _, _, _ amqp.Delivery) { s.Must(ch.Close()) }},
				{"the second, then channel.close", func(ch *Channel, _, b, _ amqp.Delivery) {
					s.Must(nackRequeue(b))
					ch.Sync()
					s.Must(ch.Close())
				}},
			} {
				s.Title("%s: %s", kind, way.name)
				ch, other := s.Channel(), s.Channel()
				q := ch.Queue(kind+", "+way.name, kind, nil)
				ch.Store(q, "a", "b", "c", "d")
				way.act(ch, ch.awaitGet(q), ch.awaitGet(q), ch.awaitGet(q))
				s.Holds(q, 4)
				for range 4 {
					s.Note("%s", other.awaitGet(q).Body)
				}
			}
		}
	}},
	{"dead-letters-keep-their-order", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			for _, way := range []struct {
				name string
				args amqp.Table
				act  func(ch *Channel, q string)
			}{
				{"rejected at once", nil, func(ch *Channel, q string) {
					ch.awaitGet(q)
					ch.awaitGet(q)
					s.Must(ch.awaitGet(q).Nack(true, false))
				}},
				{"expired", amqp.Table{"x-message-ttl": 100}, func(ch *Channel, _ string) { s.Pass(100 * ms) }},
				{"over the length", amqp.Table{"x-max-length": 0}, func(*Channel, string) {}},
			} {
				s.Title("%s: %s", kind, way.name)
				ch := s.Channel()
				dead := ch.Queue("dead from "+kind+" "+way.name, kind, nil)
				q := ch.Queue(kind+" "+way.name, kind, with(to(dead), way.args))
				ch.Store(q, "a", "b", "c")
				way.act(ch, q)
				s.Holds(dead, 3)
				for range 3 {
					s.Note("%s", ch.awaitGet(dead).Body)
				}
			}
		}
	}},
}

package conformance

import amqp "github.com/rabbitmq/amqp091-go"

var transactions = []Scenario{
	{"transactions-publish-at-commit", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			s.Must(ch.Tx())
			ch.Publish("", q, amqp.Publishing{Body: []byte("1")})
			ch.Sync()
			s.Holds(q, 0)
			s.Note("rollback")
			s.Must(ch.TxRollback())
			ch.Publish("", q, amqp.Publishing{Body: []byte("2")})
			ch.Publish("", q, amqp.Publishing{Body: []byte("3")})
			s.Note("commit")
			s.Must(ch.TxCommit())
			ch.AwaitGet(q)
			ch.AwaitGet(q)
			s.Note("closed before the commit")
			ch.Publish("", q, amqp.Publishing{Body: []byte("4")})
			s.Must(ch.Close())
			s.Holds(q, 2)
		}
	}},
	{"transactions-settle-at-commit", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2")
			s.Must(ch.Tx())
			d := ch.Get(q)
			s.Must(d.Nack(false, true))
			ch.Sync()
			s.Holds(q, 1)
			s.Note("rollback")
			s.Must(ch.TxRollback())
			ch.Sync()
			s.Holds(q, 1)
			s.Note("nack again, and commit")
			s.Must(d.Nack(false, true))
			s.Must(ch.TxCommit())
			s.Holds(q, 2)
			d = ch.Get(q)
			s.Note("ack, and close before the commit")
			s.Must(d.Ack(false))
			s.Must(ch.Close())
			s.Holds(q, 2)
		}
	}},
	{"transactions-keep-their-prefetch-until-commit", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2", "3", "4")
			s.Must(ch.Qos(2, 0, false))
			a := ch.Subscribe(q, "a")
			s.Must(ch.Tx())
			d := a.Next()
			a.Next()
			s.Must(d.Ack(false))
			ch.Sync()
			s.Holds(q, 2)
			s.Note("commit")
			s.Must(ch.TxCommit())
			d = a.Next()
			s.Note("ack all, roll back, ack all again, commit")
			s.Must(d.Ack(true))
			s.Must(ch.TxRollback())
			s.Must(ch.Ack(0, true))
			s.Must(ch.TxCommit())
			a.Next()
		}
	}},
	{"transactions-return-at-commit", func(s *Script) {
		ch := s.Channel()
		s.Must(ch.Tx())
		ch.Publish("amq.direct", s.suffix, amqp.Publishing{Body: []byte("m")})
		s.Must(ch.TxCommit())
		ch.Event()
		ch.Publish("amq.direct", s.suffix, amqp.Publishing{Body: []byte("rolled back")})
		s.Must(ch.TxRollback())
		ch.Publish("amq.direct", s.suffix, amqp.Publishing{Body: []byte("next")})
		s.Must(ch.TxCommit())
		ch.Event()
	}},
	{"transactions-route-at-publish", func(s *Script) {
		ch := s.Channel()
		q, x := ch.Queue("q", "classic", nil), ch.Exchange("x", "fanout", nil)
		s.Must(ch.Tx())
		ch.Publish(x, "", amqp.Publishing{Body: []byte("before the binding")})
		s.Must(ch.QueueBind(q, "", x, false, nil))
		ch.Publish(x, "", amqp.Publishing{Body: []byte("after the binding")})
		s.Must(ch.TxCommit())
		ch.Event()
		ch.AwaitGet(q)
		ch.Get(q)
		s.Title("the queue is deleted before the commit")
		ch.Publish(x, "", amqp.Publishing{Body: []byte("m")})
		ch.Sync()
		_, err := ch.conn.Open().QueueDelete(q, false, false, false)
		s.Must(err)
		s.Note("%s", ch.outcome(ch.TxCommit()))
	}},
	{"transaction-errors", func(s *Script) {
		s.Try("commit without a transaction", func(ch *Channel) error { return ch.TxCommit() })
		s.Try("rollback without a transaction", func(ch *Channel) error { return ch.TxRollback() })
		s.Try("select twice", func(ch *Channel) error {
			s.Must(ch.Tx())
			return ch.Tx()
		})
		s.Try("commit nothing", func(ch *Channel) error {
			s.Must(ch.Tx())
			return ch.TxCommit()
		})
		s.Try("transactions after confirms", func(ch *Channel) error {
			s.Must(ch.Confirm(false))
			return ch.Tx()
		})
		s.Try("confirms after transactions", func(ch *Channel) error {
			s.Must(ch.Tx())
			return ch.Confirm(false)
		})
		s.Try("publish to a missing exchange", func(ch *Channel) error {
			s.Must(ch.Tx())
			return ch.PublishWithContext(s.ctx, s.Name("missing"), "", false, false, amqp.Publishing{})
		})
		s.Try("ack of a tag that was never delivered", func(ch *Channel) error {
			s.Must(ch.Tx())
			return ch.Ack(77, false)
		})
		s.Try("ack twice in a transaction", func(ch *Channel) error {
			q := ch.Queue("work", "classic", nil)
			ch.Store(q, "m")
			d := ch.Get(q)
			s.Must(ch.Tx())
			s.Must(d.Ack(false))
			return d.Ack(false)
		})
		s.Try("commit a publish that a full queue refuses", func(ch *Channel) error {
			q := ch.Queue("full", "classic", amqp.Table{"x-max-length": 0, "x-overflow": "reject-publish"})
			s.Must(ch.Tx())
			ch.Publish("", q, amqp.Publishing{})
			return ch.TxCommit()
		})
	}},
}

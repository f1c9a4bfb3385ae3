package conformance

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Scenarios about exclusive and auto-delete queues.
var queueLifetimes = []Scenario{
	{"exclusive-queues", func(s *Script) {
		owner := s.Channel()
		q := s.Name("mine")
		_, err := owner.QueueDeclare(q, false, false, true, false, nil)
		s.Must(err)
		s.Must(owner.QueueBind(q, "bound", "amq.direct", false, nil))
		owner.Store(q, "m")
		s.Title("another channel of the connection")
		other := owner.conn.Open()
		other.Get(q)
		_, err = other.QueueDeclare(q, true, false, true, false, nil)
		s.Note("declared again, as durable: %s", other.outcome(err))
		_, err = owner.conn.Open().QueueDeclare(q, false, false, false, false, nil)
		s.Note("declared again, not exclusive: %s", failure(err))

		s.Title("another connection")
		for _, f := range []struct {
			what string
			act  func(ch *Channel) error
		}{
			{"declare", func(ch *Channel) error { _, err := ch.QueueDeclare(q, false, false, false, false, nil); return err }},
			{"declare exclusive", func(ch *Channel) error { _, err := ch.QueueDeclare(q, false, false, true, false, nil); return err }},
			{"declare passive", func(ch *Channel) error {
				_, err := ch.QueueDeclarePassive(q, false, false, false, false, nil)
				return err
			}},
			{"get", func(ch *Channel) error { _, _, err := ch.Channel.Get(q, true); return err }},
			{"consume", func(ch *Channel) error { _, err := ch.Consume(q, "c", false, false, false, false, nil); return err }},
			{"purge", func(ch *Channel) error { _, err := ch.QueuePurge(q, false); return err }},
			{"delete", func(ch *Channel) error { _, err := ch.QueueDelete(q, false, false, false); return err }},
			{"bind", func(ch *Channel) error { return ch.QueueBind(q, "k", "amq.direct", false, nil) }},
			{"unbind", func(ch *Channel) error { return ch.QueueUnbind(q, "bound", "amq.direct", nil) }},
			{"unbind without a binding", func(ch *Channel) error { return ch.QueueUnbind(q, "k", "amq.direct", nil) }},
			{"publish", func(ch *Channel) error {
				ch.Publish("", q, amqp.Publishing{})
				return nil
			}},
		} {
			s.Try(f.what, f.act)
		}
		s.Title("the connection has gone")
		s.Must(owner.conn.Close())
		s.Gone(q)
	}},
	{"auto-delete-queues", func(s *Script) {
		ch := s.Channel()
		declare := func(name string) string {
			q := s.Name(name)
			_, err := ch.QueueDeclare(q, true, true, false, false, nil)
			s.Must(err)
			return q
		}
		q := declare("never-consumed-from")
		ch.Store(q, "m")
		s.Must(ch.Get(q).Ack(false))
		s.Counts(ch.QueueDeclarePassive(q, true, true, false, false, nil))

		s.Title("cancel of the last consumer")
		q = declare("cancelled")
		other := ch.conn.Open()
		other.Subscribe(q, "a")
		other.Subscribe(q, "b")
		s.Must(other.Cancel("a", false))
		s.Counts(ch.QueueDeclarePassive(q, true, true, false, false, nil))
		s.Must(other.Cancel("b", false))
		s.Gone(q)
		other.State()

		s.Title("close of its channel")
		q = declare("channel-closed")
		other.Subscribe(q, "a")
		s.Must(other.Close())
		s.Gone(q)

		s.Title("close of its connection")
		q = declare("connection-closed")
		other = s.Channel()
		ch.Store(q, "m")
		other.Subscribe(q, "a").Next()
		s.Must(other.conn.Close())
		s.Gone(q)
	}},
}

// Gone waits until the queue is deleted, and writes the error of a passive declaration.
func (s *Script) Gone(queue string) {
	s.tb.Helper()
	conn := s.Dial()
	defer conn.Close()
	for end := time.Now().Add(eventTimeout); ; {
		ch, err := conn.Channel()
		s.Must(err)
		if _, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil); err != nil {
			s.Note("%s", failure(err))
			return
		}
		s.Must(ch.Close())
		if time.Now().After(end) {
			s.tb.Fatalf("%s was not deleted; transcript so far:\n%s", queue, s.lines.String())
		}
		time.Sleep(time.Millisecond)
	}
}

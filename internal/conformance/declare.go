package conformance

import (
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Scenarios about declarations and connections.
var declaring = slices.Concat(declarations, queueArguments, queueLifetimes, queueRemovals, exchangeDeclarations, redeclarations, refusedMessages, sizes, handshakes)

// Scenarios about the answers and errors of queue.declare.
var declarations = []Scenario{
	{"queue-declare-returns-counts", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := s.Name(kind)
			args := amqp.Table{"x-queue-type": kind}
			s.Counts(ch.QueueDeclare(q, true, false, false, false, args))
			ch.Store(q, "a", "b", "c")
			s.Counts(ch.QueueDeclare(q, true, false, false, false, args))
			ch.Get(q)
			s.Note("delivered messages do not count")
			s.Counts(ch.QueueDeclarePassive(q, true, false, false, false, nil))
			ch.Subscribe(q, "first to "+kind).Next()
			ch.Subscribe(q, "second to "+kind)
			s.Counts(ch.QueueDeclarePassive(q, true, false, false, false, nil))
		}
	}},
	{"consumers-counted-by-queue-declare", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			count := func(q string) { s.Counts(ch.QueueDeclarePassive(q, true, false, false, false, nil)) }
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "a", "b", "c")
			ch.Get(q)
			d := ch.Get(q)
			count(q)
			s.Must(d.Ack(true))
			s.Await(q, 1, 0)
			c := ch.Subscribe(q, "c")
			d = c.Next()
			s.Must(ch.Cancel("c", false))
			s.Note("cancelled, with one message unsettled")
			count(q)
			s.Must(d.Ack(false))
			s.Await(q, 0, 0)

			single := ch.Queue("single-"+kind, kind, amqp.Table{"x-single-active-consumer": true})
			for _, tag := range []string{"first", "second", "third"} {
				ch.Subscribe(single, tag)
			}
			count(single)
			s.Must(ch.Cancel("first", false))
			count(single)
		}
	}},
	{"passive-declare-compares-only-the-name", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "quorum", amqp.Table{"x-delivery-limit": 3})
		s.Note("other properties, other arguments:")
		s.Counts(ch.QueueDeclarePassive(q, false, true, false, false, amqp.Table{"x-queue-type": "classic", "x-max-length": "no number"}))
		missing := s.Name("missing")
		s.Try("no such queue", func(ch *Channel) error {
			_, err := ch.QueueDeclarePassive(missing, true, false, false, false, nil)
			return err
		})
		s.Try("no such queue, no-wait", func(ch *Channel) error {
			_, err := ch.QueueDeclarePassive(missing, true, false, false, true, nil)
			return err
		})
		s.Try("no name, after a declaration", func(ch *Channel) error {
			ch.Queue("work", "quorum", amqp.Table{"x-delivery-limit": 3})
			_, err := ch.QueueDeclarePassive("", true, false, false, false, nil)
			return err
		})
	}},
	{"queue-properties-refused-by-type", func(s *Script) {
		q := s.Name("work")
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			for _, f := range []struct {
				what                           string
				name                           string
				durable, autoDelete, exclusive bool
			}{
				{"durable", q, true, false, false},
				{"transient", q, false, false, false},
				{"durable, auto-delete", q, true, true, false},
				{"transient, auto-delete", q, false, true, false},
				{"durable, exclusive", q, true, false, true},
				{"transient, exclusive", q, false, false, true},
				{"transient, exclusive, auto-delete", q, false, true, true},
				{"durable, server-named", "", true, false, false},
				{"transient, exclusive, server-named", "", false, false, true},
			} {
				s.Try(f.what, func(ch *Channel) error {
					d, err := ch.QueueDeclare(f.name, f.durable, f.autoDelete, f.exclusive, false, amqp.Table{"x-queue-type": kind})
					if err == nil {
						_, err = ch.QueueDelete(d.Name, false, false, false)
					}
					return err
				})
			}
		}
	}},
	{"queue-names", func(s *Script) {
		long := s.Name("")
		for _, f := range []struct{ what, name string }{
			{"amq.", "amq.foo"},
			{"amq. alone", "amq."},
			{"amq", "amq" + s.suffix},
			{"AMQ.", "AMQ.foo" + s.suffix},
			{"of 255 bytes", long + fmt.Sprintf("%0*d", 255-len(long), 0)},
			{"with other letters", "größe, ü/%20:" + s.suffix},
			{"with line ends", "a\r\nb\n" + s.suffix},
		} {
			s.Try(f.what, func(ch *Channel) error {
				q, err := ch.QueueDeclare(f.name, true, false, false, false, nil)
				if err == nil && q.Name != f.name {
					s.Note("named %q", q.Name)
				}
				if err == nil {
					_, err = ch.QueueDelete(q.Name, false, false, false)
				}
				return err
			})
		}
	}},
	{"server-named-queues", func(s *Script) {
		ch := s.Channel()
		q, err := ch.QueueDeclare("", false, false, true, false, nil)
		s.Counts(q, err)
		s.Note("an empty name means the queue declared last on the channel:")
		s.Must(ch.QueueBind("", "k", "amq.direct", false, nil))
		s.Must(ch.QueueBind("", "", "amq.direct", false, nil))
		for _, key := range []string{"k", "", q.Name} {
			ch.Publish("amq.direct", key, amqp.Publishing{Body: []byte("m")})
		}
		ch.Event()
		ch.Get("")
		ch.Get("")
		ch.Get("")
		n, err := ch.QueuePurge("", false)
		s.Must(err)
		s.Note("purged %d", n)
		s.Must(ch.QueueUnbind("", "k", "amq.direct", nil))
		n, err = ch.QueueDelete("", false, false, false)
		s.Must(err)
		s.Note("deleted, with %d messages", n)

		s.Title("no queue was declared on the channel")
		for _, f := range []struct {
			what string
			act  func(ch *Channel) error
		}{
			{"passive declare", func(ch *Channel) error {
				_, err := ch.QueueDeclarePassive("", false, false, false, false, nil)
				return err
			}},
			{"bind", func(ch *Channel) error { return ch.QueueBind("", "k", "amq.direct", false, nil) }},
			{"unbind", func(ch *Channel) error { return ch.QueueUnbind("", "k", "amq.direct", nil) }},
			{"get", func(ch *Channel) error { _, _, err := ch.Channel.Get("", false); return err }},
			{"consume", func(ch *Channel) error { _, err := ch.Consume("", "c", false, false, false, false, nil); return err }},
			{"purge", func(ch *Channel) error { _, err := ch.QueuePurge("", false); return err }},
			{"delete", func(ch *Channel) error { _, err := ch.QueueDelete("", false, false, false); return err }},
		} {
			s.Try(f.what, f.act)
		}
		s.Title("the queue declared last is deleted")
		s.Try("get", func(ch *Channel) error {
			q := ch.Queue("work", "classic", nil)
			_, err := ch.QueueDelete(q, false, false, false)
			s.Must(err)
			_, _, err = ch.Channel.Get("", false)
			return err
		})
		s.Try("get, after a passive declaration of another", func(ch *Channel) error {
			other := ch.Queue("other", "classic", nil)
			q := ch.Queue("work", "classic", nil)
			_, err := ch.QueueDeclarePassive(other, false, false, false, false, nil)
			s.Must(err)
			ch.Store(other, "of other")
			ch.Store(q, "of work")
			ch.Get("")
			return nil
		})
	}},
}

package conformance

import amqp "github.com/rabbitmq/amqp091-go"

var bindings = []Scenario{
	{"bindings-differ-by-key-and-arguments", func(s *Script) {
		r := s.router()
		x := r.ch.Exchange("direct", "direct", nil)
		s.Title("bound twice, unbound once")
		r.bind("q", "k", x, nil)
		r.bind("q", "k", x, nil)
		q := r.queues[0]
		r.send(x, "k", nil)
		s.Must(r.ch.QueueUnbind(q, "k", x, nil))
		r.send(x, "k", nil)

		s.Title("bound with two arguments, unbound with one")
		r.bind("q", "k", x, amqp.Table{"n": 1, "m": "x"})
		r.bind("q", "k", x, amqp.Table{"n": 2})
		s.Must(r.ch.QueueUnbind(q, "k", x, amqp.Table{"n": 2}))
		r.send(x, "k", nil)
		s.Must(r.ch.QueueUnbind(q, "k", x, nil))
		r.send(x, "k", nil)
		s.Must(r.ch.QueueUnbind(q, "k", x, amqp.Table{"m": "x", "n": int64(1)}))
		r.send(x, "k", nil)
		s.Must(r.ch.QueueUnbind(q, "k", x, amqp.Table{"m": "x", "n": 1}))
		r.send(x, "k", nil)
	}},
	{"binding-missing-queues-and-exchanges", func(s *Script) {
		r := s.router("q")
		q, x := r.queues[0], r.ch.Exchange("fanout", "fanout", nil)
		noQueue, noExchange := s.Name("no-queue"), s.Name("no-exchange")
		s.Try("bind to a missing exchange", func(ch *Channel) error { return ch.QueueBind(q, "k", noExchange, false, nil) })
		s.Try("bind a missing queue", func(ch *Channel) error { return ch.QueueBind(noQueue, "k", x, false, nil) })
		s.Try("bind a missing queue to a missing exchange", func(ch *Channel) error { return ch.QueueBind(noQueue, "k", noExchange, false, nil) })
		s.Try("bind a missing exchange", func(ch *Channel) error { return ch.ExchangeBind(noExchange, "k", x, false, nil) })
		s.Try("bind to a missing exchange", func(ch *Channel) error { return ch.ExchangeBind(x, "k", noExchange, false, nil) })
		s.Try("bind no queue, having declared none", func(ch *Channel) error { return ch.QueueBind("", "k", x, false, nil) })
		s.Try("unbind what was not bound", func(ch *Channel) error { return ch.QueueUnbind(q, "k", x, nil) })
		s.Try("unbind a missing queue", func(ch *Channel) error { return ch.QueueUnbind(noQueue, "k", x, nil) })
		s.Try("unbind from a missing exchange", func(ch *Channel) error { return ch.QueueUnbind(q, "k", noExchange, nil) })
		s.Try("unbind a missing exchange", func(ch *Channel) error { return ch.ExchangeUnbind(noExchange, "k", x, false, nil) })
	}},
	{"an-empty-name-means-the-last-declared-queue", func(s *Script) {
		r := s.router("first", "last")
		x := r.ch.Exchange("direct", "direct", nil)
		s.Must(r.ch.QueueBind("", "k", x, false, nil))
		s.Must(r.ch.QueueBind("", "", x, false, nil))
		r.send(x, "k", nil)
		s.Title("the empty key is the name, too")
		r.send(x, "", nil)
		r.send(x, r.queues[1], nil)
		s.Title("unbind")
		s.Must(r.ch.QueueUnbind("", "k", x, nil))
		r.send(x, "k", nil)
		s.Title("get")
		r.ch.Store(r.queues[1], "m")
		r.ch.Get("")
	}},
	{"exchanges-bound-to-exchanges", func(s *Script) {
		r := s.router()
		in, mid, out := r.ch.Exchange("in", "topic", nil), r.ch.Exchange("mid", "direct", nil), r.ch.Exchange("out", "fanout", nil)
		s.Must(r.ch.ExchangeBind(mid, "a.*", in, false, nil))
		s.Must(r.ch.ExchangeBind(out, "a.b", mid, false, nil))
		s.Must(r.ch.ExchangeBind(in, "a.b", mid, false, nil))
		s.Must(r.ch.ExchangeBind(in, "#", in, false, nil))
		r.bind("of in", "#.c", in, nil)
		r.bind("of mid", "a.c", mid, nil)
		r.bind("of out", "", out, nil)
		for _, key := range []string{"a.b", "a.c", "b", "b.c"} {
			r.send(in, key, nil)
		}
		s.Title("from the middle")
		r.send(mid, "a.b", nil)
		s.Title("unbound")
		s.Must(r.ch.ExchangeUnbind(out, "a.b", mid, false, nil))
		r.send(in, "a.b", nil)
		s.Title("deleted in the middle")
		s.Must(r.ch.ExchangeDelete(mid, false, false))
		r.send(in, "a.c", nil)
		r.send(in, "b.c", nil)
	}},
	{"deleting-exchanges-in-use", func(s *Script) {
		r := s.router()
		in, out := r.ch.Exchange("in", "fanout", nil), r.ch.Exchange("out", "fanout", nil)
		s.Must(r.ch.ExchangeBind(out, "", in, false, nil))
		unused := func(what, x string) {
			s.Try(what, func(ch *Channel) error { return ch.ExchangeDelete(x, true, false) })
		}
		unused("delete a source if unused", in)
		unused("delete a destination if unused", out)
		unused("delete the source again", in)
		unused("delete a missing exchange", s.Name("missing"))
		s.Try("delete amq.topic", func(ch *Channel) error { return ch.ExchangeDelete("amq.topic", false, false) })
	}},
	{"auto-delete-exchanges-are-deleted-with-their-last-binding", func(s *Script) {
		r := s.router("q")
		outer, inner := s.Name("outer"), s.Name("inner")
		there := func(x string) {
			s.Try("is "+x+" there", func(ch *Channel) error { return ch.ExchangeDeclarePassive(x, "fanout", true, true, false, false, nil) })
		}
		for _, x := range []string{outer, inner} {
			s.Must(r.ch.ExchangeDeclare(x, "fanout", true, true, false, false, nil))
		}
		s.Must(r.ch.ExchangeBind(inner, "", outer, false, nil))
		r.bind("q", "1", inner, nil)
		r.bind("q", "2", inner, nil)
		s.Must(r.ch.QueueUnbind(r.queues[0], "1", inner, nil))
		there(inner)
		there(outer)
		s.Title("with the queue")
		_, err := r.ch.QueueDelete(r.queues[0], false, false, false)
		s.Must(err)
		there(inner)
		there(outer)
	}},
}

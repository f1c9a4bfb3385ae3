package conformance

import (
	"fmt"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

var confirmFrame = call(1, 85, 10, byte(0))

// confirming opens a channel in confirm mode.
func (s *Script) confirming() *rawConn {
	s.tb.Helper()
	r := s.raw()
	r.write(confirmFrame)
	r.await("confirm.select-ok")
	return r
}

// frames reads frames up to and including the first one named last, and renders all of them.
func (r *rawConn) frames(last string) string {
	r.s.tb.Helper()
	var list []string
	for {
		f := r.next()
		list = append(list, f.String())
		if f.name == last {
			return strings.Join(list, ", ")
		}
		if f.name == "" || f.name == "connection.close" {
			r.s.tb.Fatalf("got %s%s, want %s; transcript so far:\n%s", strings.Join(list, ", "), r.ends, last, r.s.lines.String())
		}
	}
}

// all renders every frame until the connection is closed, without connection.close-ok.
func (r *rawConn) all() string {
	var list []string
	for {
		f := r.next()
		if f.name == "connection.close-ok" {
			return strings.Join(list, ", ")
		}
		list = append(list, f.String())
		if f.name == "" || f.name == "connection.close" {
			return strings.Join(list, ", ") + r.ends
		}
	}
}

// confirms reads acks and nacks until each of n messages is confirmed. One with multiple set also confirms all earlier
// messages.
func (r *rawConn) confirms(n int) (outcomes string, methods, multiple int) {
	r.s.tb.Helper()
	outcome := make([]byte, n)
	for slices.Contains(outcome, 0) {
		f := r.next()
		if f.name != "basic.ack" && f.name != "basic.nack" {
			r.s.tb.Fatalf("got %v%s, want a confirm; transcript so far:\n%s", f, r.ends, r.s.lines.String())
		}
		methods++
		tag, several := int(f.fields.u64()), f.fields.u8()&1 == 1
		if several {
			multiple++
		}
		for i := range tag {
			if outcome[i] == 0 && (several || i == tag-1) {
				outcome[i] = f.name[len("basic.")]
			}
		}
	}
	return string(outcome), methods, multiple
}

var frameOrders = []Scenario{
	{"confirms-are-coalesced", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := s.Channel().Queue(kind, kind, nil)
			r := s.confirming()
			r.write(toQueue(q, 1)...)
			s.Note("a message alone: %s", r.frames("basic.ack"))
			burst := s.confirming()
			burst.write(toQueue(q, 1000)...)
			_, methods, multiple := burst.confirms(1000)
			s.Note("1000 messages at once: fewer acks: %v, some of them multiple: %v", methods < 1000, multiple > 0)
		}
		s.Title("returned")
		r := s.confirming()
		for range 3 {
			r.write(publish(1, "", "nobody"+s.suffix, true), noContent)
		}
		s.Note("mandatory: %s, %s, %s", r.frames("basic.ack"), r.frames("basic.ack"), r.frames("basic.ack"))
		r.write(unroutable, noContent, unroutable, noContent, unroutable, noContent)
		s.Note("not mandatory: %s, %s, %s", r.frames("basic.ack"), r.frames("basic.ack"), r.frames("basic.ack"))
	}},
	{"nacks-are-multiple-where-possible", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			full := ch.Queue(kind, kind, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
			ch.Store(full, "1")
			if kind == "quorum" { // a quorum queue accepts one message beyond its limit
				ch.Store(full, "2")
			}
			r := s.confirming()
			r.write(toQueue(full, 1)...)
			s.Note("the first message: %s", r.frames("basic.nack"))
			r.write(toQueue(full, 1)...)
			s.Note("the second: %s", r.frames("basic.nack"))
			r.write(unroutable, noContent)
			s.Note("a third, unroutable: %s", r.frames("basic.ack"))
			r.write(toQueue(full, 1)...)
			s.Note("a fourth: %s", r.frames("basic.nack"))
			var mixed [][]byte
			open := ch.Queue(kind+".open", kind, nil)
			for range 20 {
				mixed = append(append(append(mixed, toQueue(open, 1)...), toQueue(full, 1)...), toQueue(open, 2)...)
			}
			mixed = append(mixed, toQueue(open, 4)...)
			other := s.confirming()
			other.write(mixed...)
			outcomes, _, _ := other.confirms(84)
			s.Note("among others: %s", outcomes)
		}
	}},
	{"basic-cancel-follows-queue-delete-ok", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			for _, notified := range []bool{true, false} {
				s.Title("%s, the client knows of basic.cancel: %v", kind, notified)
				q := s.Channel().Queue(fmt.Sprintf("%s-%v", kind, notified), kind, nil)
				var properties table
				if notified {
					properties = capability("consumer_cancel_notify")
				}
				r, other := s.rawWith(properties), s.rawWith(properties)
				consume := func(r *rawConn, tag string) {
					r.write(call(1, 60, 20, uint16(0), q, tag, byte(0), table(nil)))
					r.await("basic.consume-ok")
					// RabbitMQ sends consume-ok before its channel monitors the queue. After qos-ok it does.
					r.write(call(1, 60, 10, uint32(0), uint16(0), byte(0)))
					r.await("basic.qos-ok")
				}
				consume(r, "c")
				consume(other, "d")
				consume(r, "a")
				consume(r, "b")
				r.write(call(1, 50, 40, uint16(0), q, byte(0)))
				if !notified {
					s.Note("%s", r.frames("queue.delete-ok"))
					continue
				}
				s.Note("%s, %s, %s", r.frames("basic.cancel"), r.frames("basic.cancel"), r.frames("basic.cancel"))
				s.Note("another connection: %s", other.frames("basic.cancel"))
			}
		}
	}},
	{"methods-without-a-reply", func(s *Script) {
		s.Channel().Queue("q", "classic", nil)
		x := s.Name("x")
		q := "q" + s.suffix
		for _, m := range []struct {
			what string
			send []byte
		}{
			{"confirm.select", call(1, 85, 10, byte(1))},
			{"exchange.declare", call(1, 40, 10, uint16(0), x, "fanout", byte(0b10000), table(nil))},
			{"exchange.declare, passive", call(1, 40, 10, uint16(0), x, "fanout", byte(0b10001), table(nil))},
			{"exchange.declare with reserved bits", call(1, 40, 10, uint16(0), x, "fanout", byte(0b11100000), table(nil))},
			{"exchange.bind", call(1, 40, 30, uint16(0), x, "amq.fanout", "", byte(1), table(nil))},
			{"exchange.unbind", call(1, 40, 40, uint16(0), x, "amq.fanout", "", byte(1), table(nil))},
			{"queue.declare", call(1, 50, 10, uint16(0), q, byte(0b10010), table(nil))},
			{"queue.declare with reserved bits", call(1, 50, 10, uint16(0), q, byte(0b11100010), table(nil))},
			{"queue.bind", call(1, 50, 20, uint16(0), q, x, "", byte(1), table(nil))},
			{"queue.purge", call(1, 50, 30, uint16(0), q, byte(1))},
			{"basic.consume", call(1, 60, 20, uint16(0), q, "c", byte(0b1000), table(nil))},
			{"basic.consume without a tag", call(1, 60, 20, uint16(0), q, "", byte(0b1000), table(nil))},
			{"basic.consume with reserved bits", call(1, 60, 20, uint16(0), q, "d", byte(0b11111000), table(nil))},
			{"basic.cancel", call(1, 60, 30, "c", byte(1))},
			{"basic.cancel of an unknown tag", call(1, 60, 30, "unknown", byte(1))},
			{"basic.recover-async", call(1, 60, 100, byte(1))},
			{"queue.delete", call(1, 50, 40, uint16(0), q, byte(0b100))},
			{"exchange.delete", call(1, 40, 20, uint16(0), x, byte(0b10))},
			{"queue.delete of a missing queue", call(1, 50, 40, uint16(0), "missing"+s.suffix, byte(0b100))},
			{"exchange.delete of a missing exchange", call(1, 40, 20, uint16(0), "missing"+s.suffix, byte(0b10))},
			{"queue.purge of a missing queue", call(1, 50, 30, uint16(0), "missing"+s.suffix, byte(1))},
			{"queue.bind of a missing queue", call(1, 50, 20, uint16(0), "missing"+s.suffix, "amq.fanout", "", byte(1), table(nil))},
			{"basic.consume of a missing queue", call(1, 60, 20, uint16(0), "missing"+s.suffix, "c", byte(0b1000), table(nil))},
			{"basic.recover-async without requeue", call(1, 60, 100, byte(0))},
		} {
			r := s.raw()
			r.write(m.send, qosFrame, closingFrame())
			s.Note("%s: %s", m.what, r.all())
		}
	}},
	{"replies-precede-deliveries", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			ch.Store(q, "1", "2")
			r := s.raw()
			r.write(call(1, 60, 20, uint16(0), q, "c", byte(0), table(nil)))
			s.Note("consumed: %s", r.frames("basic.consume-ok"))
			s.Note("%s, %s", r.frames("body"), r.frames("body"))
			r.write(call(1, 60, 30, "c", byte(0)))
			s.Note("cancelled: %s", r.frames("basic.cancel-ok"))
			r.write(call(1, 60, 110, byte(1)))
			s.Note("recovered: %s", r.frames("basic.recover-ok"))
			s.Holds(q, 2)
			r.write(call(1, 60, 70, uint16(0), q, byte(1)))
			s.Note("got: %s", r.frames("body"))
			r.write(call(1, 50, 30, uint16(0), q, byte(0)))
			s.Note("purged: %s", r.frames("queue.purge-ok"))
			r.write(call(1, 60, 70, uint16(0), q, byte(1)))
			s.Note("got: %s", r.frames("basic.get-empty"))
		}
	}},
	{"basic-cancel-ok-of-a-client-cancels", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := s.Channel().Queue(kind, kind, nil)
			r := s.raw()
			r.write(call(1, 60, 20, uint16(0), q, "c", byte(0), table(nil)))
			r.await("basic.consume-ok")
			r.write(call(1, 60, 31, "c"), qosFrame)
			s.Note("%s", r.frames("basic.qos-ok"))
			r.write(call(1, 50, 40, uint16(0), q, byte(0)), qosFrame)
			s.Note("%s", r.frames("basic.qos-ok"))
		}
	}},
}

// toQueue encodes n messages to a queue.
func toQueue(queue string, n int) [][]byte {
	return slices.Repeat([][]byte{publish(1, "", queue, false), noContent}, n)
}

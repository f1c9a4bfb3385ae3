package conformance

import (
	"fmt"
	"strings"
)

// A rawHeaders is an encoded table of headers with a description.
type rawHeaders struct{ what, fields string }

func sized(kind, value string) string {
	n := len(value)
	return kind + string([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + value
}

func key(k string) string { return string([]byte{byte(len(k))}) + k }

var eight = "\x00\x00\x00\x00\x00\x00\x00"

var rawTables = []rawHeaders{
	{"nothing", ""},
	{"t 0, 1, 2 and 255", key("a") + "t\x00" + key("b") + "t\x01" + key("c") + "t\x02" + key("d") + "t\xff"},
	{"b and B", key("a") + "b\x7f" + key("b") + "b\x80" + key("c") + "B\x80" + key("d") + "B\xff"},
	{"s and u", key("a") + "s\x7f\xff" + key("b") + "s\x80\x00" + key("c") + "u\x80\x00" + key("d") + "u\xff\xff"},
	{"I and i", key("a") + "I\x7f\xff\xff\xff" + key("b") + "I\x80\x00\x00\x00" + key("c") + "i\x80\x00\x00\x00" + key("d") + "i\xff\xff\xff\xff"},
	{"l and L", key("a") + "l" + eight + "\x07" + key("b") + "L" + eight + "\x07" + key("c") + "L\x80" + eight + key("d") + "l\xff\xff\xff\xff\xff\xff\xff\xff" + key("e") + "L\xff\xff\xff\xff\xff\xff\xff\xff"},
	{"f and d", key("a") + "f\x80\x00\x00\x00" + key("b") + "f\x00\x00\x00\x01" + key("c") + "d\x80" + eight + key("d") + "d" + eight + "\x01" + key("e") + "f\x7f\x7f\xff\xff"},
	{"D", key("a") + "D\x02\x00\x00\x00\x07" + key("b") + "D\xff\xff\xff\xff\xff" + key("c") + "D\x00\x80\x00\x00\x00"},
	{"T", key("a") + "T" + eight + "\x07" + key("b") + "T\x7f\xff\xff\xff\xff\xff\xff\xff" + key("c") + "T\x80" + eight + key("d") + "T\xff\xff\xff\xff\xff\xff\xff\xff"},
	{"S and x", key("a") + sized("S", "") + key("b") + sized("S", "text") + key("c") + sized("S", "\x00\xff") + key("d") + sized("x", "") + key("e") + sized("x", "\x00\xff")},
	{"V", key("a") + "V" + key("b") + "V"},
	{"F", key("a") + sized("F", "") + key("b") + sized("F", key("b")+"t\x02"+key("a")+"L"+eight+"\x01"+key("b")+"V")},
	{"A", key("a") + sized("A", "") + key("b") + sized("A", "t\x02"+"L"+eight+"\x01"+sized("S", "s")+"V"+sized("A", "t\xff")+sized("F", key("z")+"t\x05"+key("a")+"V"+key("z")+"L"+eight+"\x02"))},
	{"order", key("b") + "V" + key("a") + "V" + key("B") + "V" + key("ab") + "V" + key("") + "V" + key("\xff") + "V" + key("\xc3\xa4") + "V" + key("_") + "V" + key("1") + "V"},
	{"duplicates", key("k") + "B\x02" + key("a") + "V" + key("k") + "B\x01" + key("k") + sized("S", "three")},
	{"equal duplicates", key("k") + "B\x01" + key("k") + "B\x01"},
	{"a key of 255 bytes", key(strings.Repeat("k", 255)) + "V"},
	{"keys that differ behind byte 0", key("k\x00b") + "V" + key("k\x00a") + "V" + key("k") + "V"},
	{"x-death, twice", key("x-death") + sized("S", "forged") + key("x-death") + "V" + key("deaths") + "V"},
	{"x-first-death-queue, x-delivery-count and x-acquired-count", key("x-first-death-queue") + "t\x02" + key("x-delivery-count") + "L" + eight + "\x07" + key("x-acquired-count") + "L" + eight + "\x08"},
	{"CC", key("CC") + sized("A", sized("S", "one")+sized("x", "two")+"V") + key("z") + "V" + key("CC") + "V"},
	{"BCC", key("z") + "V" + key("BCC") + sized("A", sized("S", "one")) + key("a") + "V"},
	{"BCC, twice", key("BCC") + sized("A", sized("S", "one")) + key("BCC") + sized("A", sized("S", "two")) + key("a") + "V"},
	{"BCC alone", key("BCC") + sized("A", sized("S", "one"))},
	{"timestamp_in_ms", key("timestamp_in_ms") + "L" + eight + "\x01"},
}

// send publishes a message with these properties and an empty body.
func (r *rawConn) send(exchange, key string, mandatory bool, properties ...any) {
	r.write(publish(1, exchange, key, mandatory), contentHeader(1, 0, properties...))
}

// content renders the properties in the content header after the next such method.
func (r *rawConn) content(method string) string {
	r.s.tb.Helper()
	r.await(method)
	f := r.next()
	return strings.TrimPrefix(f.String(), "header ")
}

// AfterRestart returns a scenario about headers in durable queues after a restart. It is not part of All, because the
// restart would interrupt scenarios that run concurrently.
func AfterRestart(restart func()) Scenario {
	return Scenario{"headers-after-a-restart", func(s *Script) {
		ch := s.Channel()
		queues := map[string]string{"classic": ch.Queue("classic", "classic", nil), "quorum": ch.Queue("quorum", "quorum", nil)}
		r := s.confirming()
		for _, q := range queues {
			for _, h := range rawTables {
				r.send("", q, false, uint16(1<<13|1<<12), table(h.fields), byte(2))
				r.await("basic.ack")
			}
		}
		s.Must(ch.conn.Close())
		restart()
		r = s.raw()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			for _, h := range rawTables {
				r.write(call(1, 60, 70, uint16(0), queues[kind], byte(1)))
				s.Note("%s: %s", h.what, r.content("basic.get-ok"))
			}
		}
	}}
}

var headerTables = []Scenario{
	{"headers-are-re-encoded", func(s *Script) {
		r := s.raw()
		for _, kind := range []string{"classic", "quorum"} {
			q := s.Channel().Queue(kind, kind, nil)
			s.Title("%s", kind)
			r.write(call(1, 85, 10, byte(0)))
			r.await("confirm.select-ok")
			for _, h := range rawTables {
				r.send("", q, false, uint16(1<<13), table(h.fields))
				r.await("basic.ack")
				r.write(call(1, 60, 70, uint16(0), q, byte(1)))
				s.Note("%s: %s", h.what, r.content("basic.get-ok"))
			}
		}
		s.Title("returned")
		for _, h := range rawTables {
			r.send("", "nobody"+s.suffix, true, uint16(1<<13), table(h.fields))
			s.Note("%s: %s", h.what, r.content("basic.return"))
		}
	}},
	{"amqp091-go-reads-headers-of-other-clients", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			c := ch.Subscribe(q, "c")
			r := s.raw()
			for _, h := range rawTables {
				r.send("", q, false, uint16(1<<13), table(h.fields))
				s.Must(c.Next().Ack(false))
			}
		}
	}},
	{"headers-on-every-delivery-path", func(s *Script) {
		sent := key("k") + "L" + eight + "\x01" + key("b") + "t\x02" + key("k") + "V" + key("F") + sized("F", key("z")+"t\x05"+key("a")+"t\x07"+key("z")+"t\x00") + key("y") + "V"
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			dead := ch.Queue(kind+".dead", kind, nil)
			q := ch.Queue(kind, kind, map[string]any{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
			r := s.raw()
			r.write(call(1, 60, 20, uint16(0), q, "c", byte(0), table(nil)))
			r.await("basic.consume-ok")
			r.send("", q, false, uint16(1<<13), table(sent))
			s.Note("delivered: %s", r.content("basic.deliver"))
			r.write(call(1, 60, 120, uint64(1), byte(2)))
			s.Note("after basic.nack: %s", r.content("basic.deliver"))
			r.write(call(1, 60, 90, uint64(2), byte(1)))
			s.Note("after basic.reject: %s", r.content("basic.deliver"))
			r.write(call(1, 60, 90, uint64(3), byte(0)))
			r.write(call(1, 60, 20, uint16(0), dead, "dead", byte(2), table(nil)))
			s.Note("dead-lettered: %s", r.content("basic.deliver"))
			forged := key("x-death") + "V" + key("z") + "V" + key("x-death") + "t\x02" + key("x-first-death-queue") + "V" + key("x-last-death-queue") + "t\x02" + key("x-last-death-queue") + "V" +
				key("x-delivery-count") + "t\x02" + key("a") + "V"
			r.send("", q, false, uint16(1<<13|1<<8), table(forged), "+60000")
			s.Note("forged: %s", r.content("basic.deliver"))
			r.write(call(1, 60, 90, uint64(5), byte(0)))
			s.Note("forged, and dead-lettered: %s", r.content("basic.deliver"))
		}
		s.Title("returned with direct reply-to")
		asker := s.raw()
		asker.write(call(1, 60, 20, uint16(0), replyTo, "reply", byte(2), table(nil)))
		asker.await("basic.consume-ok")
		asker.send("", "nobody"+s.suffix, true, uint16(1<<13|1<<9), table(sent), replyTo)
		s.Note("%s", asker.content("basic.return"))
		s.Title("direct reply-to")
		q := s.Channel().Queue("requests", "classic", nil)
		r := s.raw()
		r.write(call(1, 60, 20, uint16(0), replyTo, "reply", byte(2), table(nil)))
		r.await("basic.consume-ok")
		r.send("", q, false, uint16(1<<13|1<<9), table(sent), replyTo)
		r.write(call(1, 60, 20, uint16(0), q, "requests", byte(2), table(nil)))
		r.await("basic.deliver")
		request := r.next().fields
		request.take(2) // the flags
		s.Note("request: headers %s", (&fields{b: request.long()}).table())
		r.send("", request.short(), true, uint16(1<<13), table(sent))
		s.Note("reply: %s", r.content("basic.deliver"))
	}},
	{"properties-are-re-encoded", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := s.Channel().Queue(kind, kind, nil)
			r := s.raw()
			r.write(call(1, 85, 10, byte(0)))
			r.await("confirm.select-ok")
			for _, p := range []struct {
				what       string
				properties []any
			}{
				{"none", []any{uint16(0)}},
				{"flags 3", []any{uint16(3)}},
				{"an empty string", []any{uint16(1 << 15), ""}},
				{"not UTF-8", []any{uint16(1<<15 | 1<<7), "\xff\x00", "\xfe"}},
				{"cluster-id", []any{uint16(1 << 2), "cluster"}},
				{"delivery-mode 0", []any{uint16(1 << 12), byte(0)}},
				{"delivery-mode 255", []any{uint16(1 << 12), byte(255)}},
				{"priority 0 and 255", []any{uint16(1 << 11), byte(0)}},
				{"priority 255", []any{uint16(1 << 11), byte(255)}},
				{"timestamp 0", []any{uint16(1 << 6), uint64(0)}},
				{"timestamp 2^63", []any{uint16(1 << 6), uint64(1 << 63)}},
				{"timestamp 2^64-1", []any{uint16(1 << 6), uint64(1<<64 - 1)}},
				{"expiration +60000", []any{uint16(1 << 8), "+60000"}},
				{"expiration 0060000", []any{uint16(1 << 8), "0060000"}},
				{"expiration 60000", []any{uint16(1 << 8), "60000"}},
			} {
				r.send("", q, false, p.properties...)
				r.await("basic.ack")
				r.write(call(1, 60, 70, uint16(0), q, byte(1)))
				s.Note("%s: %s", p.what, r.content("basic.get-ok"))
				r.send("", "nobody"+s.suffix, true, p.properties...)
				s.Note("%s, returned: %s", p.what, r.content("basic.return"))
				r.await("basic.ack")
			}
		}
	}},
	{"headers-are-matched-by-decoded-values", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange("x", "headers", nil)
		r := s.raw()
		for i, m := range []struct{ binding, header string }{
			{"l" + eight + "\x01", "L" + eight + "\x01"},
			{"L" + eight + "\x01", "l" + eight + "\x01"},
			{"L\x80" + eight, "l\x80" + eight},
			{"t\x02", "t\x01"},
			{"t\x01", "t\xff"},
			{"t\x00", "t\x01"},
			{"B\x01", "t\x01"},
			{"B\xff", "b\xff"},
			{"B\x01", "I\x00\x00\x00\x01"},
			{"i\xff\xff\xff\xff", "I\xff\xff\xff\xff"},
			{"u\xff\xff", "L\x00\x00\x00\x00\x00\x00\xff\xff"},
			{"f\x3f\x80\x00\x00", "d\x3f\xf0\x00\x00\x00\x00\x00\x00"},
			{"f\x00\x00\x00\x00", "f\x80\x00\x00\x00"},
			{"D\x02\x00\x00\x00\x07", "D\x02\x00\x00\x00\x07"},
			{"D\x02\x00\x00\x00\x07", "D\x03\x00\x00\x00\x46"},
			{sized("S", "a"), sized("x", "a")},
			{sized("A", "t\x02"), sized("A", "t\x01")},
			{sized("A", "L"+eight+"\x01"), sized("A", "l"+eight+"\x01")},
			{sized("A", "B\x01"), sized("A", "b\x01")},
			{sized("A", sized("S", "a")), sized("A", sized("x", "a"))},
			{sized("F", key("a")+"t\x02"), sized("F", key("a")+"t\x01")},
			{sized("F", key("a")+"V"+key("b")+"V"), sized("F", key("b")+"V"+key("a")+"V")},
			{sized("F", key("a")+"V"), sized("F", key("a")+"V"+key("a")+"V")},
			{"T" + eight + "\x01", "T" + eight + "\x01"},
			{"l" + "\x00\x00\x00\x00\x00\x00\x03\xe8", "T" + eight + "\x01"},
			{"V", "t\x00"},
			{"t\x00", "V"},
		} {
			q := ch.Queue(fmt.Sprintf("q%d", i), "classic", nil)
			name := fmt.Sprintf("k%d", i)
			r.write(call(1, 50, 20, uint16(0), q, x, "", byte(0), table(key(name)+m.binding)))
			r.await("queue.bind-ok")
			r.send(x, "", true, uint16(1<<13), table(key(name)+m.header))
			r.write(call(1, 60, 10, uint32(0), uint16(0), byte(0)))
			got := "matches"
			for f := r.next(); f.name != "basic.qos-ok"; f = r.next() {
				got = "does not match"
			}
			s.Note("%s %s %s", (&fields{b: []byte(m.binding)}).value(false), got, (&fields{b: []byte(m.header)}).value(false))
		}
		s.Title("duplicates")
		for i, m := range []struct{ what, binding, headers string }{
			{"the first of two headers", key("x-match") + sized("S", "all") + key("d") + "B\x01", key("d") + "B\x01" + key("d") + "B\x02"},
			{"the second of two headers", key("x-match") + sized("S", "all") + key("d") + "B\x02", key("d") + "B\x01" + key("d") + "B\x02"},
			{"both of two arguments, by one of them", key("e") + "B\x01" + key("e") + "B\x02", key("e") + "B\x01"},
			{"any of two arguments, by one of them", key("x-match") + sized("S", "any") + key("f") + "B\x01" + key("f") + "B\x02", key("f") + "B\x02"},
			{"the first of two x-match", key("x-match") + sized("S", "any") + key("x-match") + sized("S", "all") + key("g") + "B\x01" + key("h") + "B\x02", key("g") + "B\x01"},
			{"the second of two x-match", key("x-match") + sized("S", "all") + key("x-match") + sized("S", "any") + key("i") + "B\x01" + key("j") + "B\x02", key("i") + "B\x01"},
		} {
			q := ch.Queue(fmt.Sprintf("d%d", i), "classic", nil)
			r.write(call(1, 50, 20, uint16(0), q, x, "", byte(0), table(m.binding)))
			r.await("queue.bind-ok")
			r.send(x, "", true, uint16(1<<13), table(m.headers))
			r.write(call(1, 60, 10, uint32(0), uint16(0), byte(0)))
			got := "matched"
			for f := r.next(); f.name != "basic.qos-ok"; f = r.next() {
				got = "not matched"
			}
			s.Note("%s: %s", m.what, got)
		}
	}},
	{"arguments-are-compared-by-decoded-values", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange("x", "headers", nil)
		q := ch.Queue("q", "classic", nil)
		r := s.raw()
		unbound := func(what string, bind, unbind string) {
			r.write(call(1, 50, 20, uint16(0), q, x, "", byte(0), table(bind)))
			r.await("queue.bind-ok")
			r.write(call(1, 50, 50, uint16(0), q, x, "", table(unbind)))
			r.await("queue.unbind-ok")
			r.send(x, "", true, uint16(1<<13), table(bind))
			r.write(call(1, 60, 10, uint32(0), uint16(0), byte(0)))
			got := "is still bound"
			for f := r.next(); f.name != "basic.qos-ok"; f = r.next() {
				got = "is unbound"
			}
			s.Note("%s: %s", what, got)
			r.write(call(1, 50, 50, uint16(0), q, x, "", table(bind)))
			r.await("queue.unbind-ok")
		}
		unbound("bound with l, unbound with L", key("a")+"l"+eight+"\x01", key("a")+"L"+eight+"\x01")
		unbound("bound with t 1, unbound with t 2", key("a")+"t\x01", key("a")+"t\x02")
		unbound("bound with I, unbound with l", key("a")+"I\x00\x00\x00\x01", key("a")+"l"+eight+"\x01")
		unbound("bound in another order", key("a")+"V"+key("b")+"V", key("b")+"V"+key("a")+"V")
		unbound("bound with a duplicate, unbound without it", key("a")+"V"+key("a")+"V", key("a")+"V")
		unbound("bound with duplicates, unbound in another order", key("a")+"B\x01"+key("a")+"B\x01"+key("b")+"V", key("b")+"V"+key("a")+"B\x01"+key("a")+"B\x01")

		s.Title("queues")
		declare := func(what, name, arguments string) {
			r.write(call(1, 50, 10, uint16(0), name, byte(2), table(arguments)))
			f := r.next()
			s.Note("%s: %s", what, f)
			if f.name == "channel.close" {
				r.write(call(1, 20, 41), call(1, 20, 10, ""))
				r.await("channel.open-ok")
			}
		}
		l := s.Name("l")
		declare("x-max-length as l", l, key("x-max-length")+"l"+eight+"\x01")
		declare("x-max-length as L", l, key("x-max-length")+"L"+eight+"\x01")
		declare("x-max-length as B", l, key("x-max-length")+"B\x01")
		declare("x-max-length twice, the first one other", l, key("x-max-length")+"B\x02"+key("x-max-length")+"B\x01")
		declare("x-max-length twice, the second one other", l, key("x-max-length")+"B\x01"+key("x-max-length")+"B\x02")
		b := s.Name("b")
		declare("x-single-active-consumer as t 2", b, key("x-single-active-consumer")+"t\x02")
		declare("x-single-active-consumer as t 1", b, key("x-single-active-consumer")+"t\x01")
		declare("x-single-active-consumer as B 1", b, key("x-single-active-consumer")+"B\x01")
		f := s.Name("f")
		declare("x-max-length as a float", f, key("x-max-length")+"f\x3f\x80\x00\x00")
		declare("x-max-length as a decimal", f, key("x-max-length")+"D\x00\x00\x00\x00\x01")
		declare("x-max-length as a timestamp", f, key("x-max-length")+"T"+eight+"\x01")
		declare("x-max-length as L of 2^63", f, key("x-max-length")+"L\x80"+eight)
		declare("x-max-length of nothing", f, key("x-max-length")+"V")
		declare("x-queue-type as bytes", f, key("x-queue-type")+sized("x", "classic"))
	}},
}

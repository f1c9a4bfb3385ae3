package broker

import (
	"fmt"
	"slices"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestMatchTopic(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"", []string{""}, []string{"a", "."}},
		{"#", []string{"", "a", "a.b", "."}, nil},
		{"*", []string{"a"}, []string{"", "a.b", "."}},
		{"a.*", []string{"a.b", "a."}, []string{"a", "a.b.c", "b.a"}},
		{"a.#", []string{"a", "a.b", "a.b.c"}, []string{"", "b", "ba"}},
		{"#.b", []string{"b", "a.b", "a.c.b"}, []string{"", "b.a"}},
		{"a.#.b", []string{"a.b", "a.x.b", "a.b.x.b"}, []string{"a", "a.b.x"}},
		{"#.a.#", []string{"a", "x.a", "a.x", "x.a.y"}, []string{"", "x"}},
		{"*.#", []string{"a", "a.b"}, []string{""}},
		{"a..b", []string{"a..b"}, []string{"a.b", "a.x.b"}},
	} {
		for want, topics := range map[bool][]string{true: c.yes, false: c.no} {
			for _, topic := range topics {
				if matchTopic(words(c.pattern), words(topic)) != want {
					t.Errorf("%q matches %q: %v", c.pattern, topic, !want)
				}
			}
		}
	}
}

func TestExchangesRouteByType(t *testing.T) {
	s := newStage(t)
	for _, q := range []string{"a", "b"} {
		s.classic(q, nil)
	}
	bind := func(q, key, exchange string, args amqp.Table) {
		t.Helper()
		s.must(s.ch.QueueBind(q, key, exchange, false, args))
	}
	bind("a", "k", "amq.direct", nil)
	bind("b", "other", "amq.direct", nil)
	bind("a", "x", "amq.fanout", nil)
	bind("b", "y", "amq.fanout", nil)
	bind("a", "orders.*", "amq.topic", nil)
	bind("b", "#.paid", "amq.topic", nil)
	bind("a", "", "amq.headers", amqp.Table{"x-match": "any", "n": int32(1), "m": "x"})
	bind("b", "", "amq.headers", amqp.Table{"n": int64(1), "m": nil})
	for _, c := range []struct {
		exchange, key string
		headers       amqp.Table
		want          string
	}{
		{"", "a", nil, "a"},
		{"", "nobody", nil, ""},
		{"amq.direct", "k", nil, "a"},
		{"amq.direct", "k", amqp.Table{"CC": []any{"other"}}, "ab"},
		{"amq.fanout", "whatever", nil, "ab"},
		{"amq.topic", "orders.paid", nil, "ab"},
		{"amq.topic", "orders.eu.paid", nil, "b"},
		{"amq.headers", "", amqp.Table{"n": int32(1)}, "a"},
		{"amq.headers", "", amqp.Table{"n": int16(1), "m": "y"}, "ab"},
		{"amq.headers", "", amqp.Table{"n": "1"}, ""},
	} {
		s.publish(c.exchange, c.key, amqp.Publishing{Headers: c.headers})
		s.sync()
		got := ""
		for _, q := range s.Queues("/") {
			if q.Ready > 0 {
				got += q.Name
			}
			_, err := s.ch.QueuePurge(q.Name, false)
			s.must(err)
		}
		if got != c.want {
			t.Errorf("%q by %q %v: in %q, want %q", c.exchange, c.key, c.headers, got, c.want)
		}
	}
}

func TestRoutingThroughExchangeBindingsAndAlternates(t *testing.T) {
	s := newStage(t)
	declare := func(name string, args amqp.Table) {
		t.Helper()
		s.must(s.ch.ExchangeDeclare(name, "direct", false, false, false, false, args))
	}
	s.classic("main", nil)
	s.classic("rest", nil)
	s.must(s.ch.ExchangeDeclare("unrouted", "fanout", false, false, false, false, nil))
	declare("in", amqp.Table{"alternate-exchange": "unrouted"})
	declare("mid", nil)
	s.must(s.ch.ExchangeBind("mid", "k", "in", false, nil))
	s.must(s.ch.ExchangeBind("in", "k", "mid", false, nil)) // a cycle
	s.must(s.ch.QueueBind("main", "k", "mid", false, nil))
	s.must(s.ch.QueueBind("rest", "", "unrouted", false, nil))

	s.publish("in", "k", amqp.Publishing{Body: []byte("routed")})
	s.publish("in", "other", amqp.Publishing{Body: []byte("not")})
	s.expectReady("main", "routed")
	s.expectReady("rest", "not")
}

func TestAutoDeleteExchangesAreDeletedWithTheirLastBinding(t *testing.T) {
	s := newStage(t)
	for _, x := range []string{"outer", "inner"} {
		s.must(s.ch.ExchangeDeclare(x, "fanout", true, true, false, false, nil))
	}
	s.classic("q", nil)
	s.must(s.ch.ExchangeBind("inner", "", "outer", false, nil))
	s.must(s.ch.QueueBind("q", "", "inner", false, nil))
	_, err := s.ch.QueueDelete("q", false, false, false)
	s.must(err)
	for _, x := range []string{"outer", "inner"} {
		expectError(t, s.channel().ExchangeDeclarePassive(x, "fanout", true, true, false, false, nil), 404, fmt.Sprintf("no exchange '%s'", x))
	}
}

func TestBCCIsHidden(t *testing.T) {
	s := newStage(t)
	s.classic("a", nil)
	s.classic("b", nil)
	s.publish("", "a", amqp.Publishing{Headers: amqp.Table{"BCC": []any{"b"}, "CC": []any{}, "own": "h"}})
	for _, q := range []string{"a", "b"} {
		d, ok := s.get(q)
		if !ok || d.RoutingKey != "a" || d.Headers["own"] != "h" || slices.Contains(keys(d.Headers), "BCC") {
			t.Errorf("%s: %v %+v", q, ok, d)
		}
	}
}

func keys(t amqp.Table) []string {
	var list []string
	for k := range t {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

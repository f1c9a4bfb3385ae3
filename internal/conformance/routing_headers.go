package conformance

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var routingByHeaders = []Scenario{
	{"headers-exchange", func(s *Script) {
		r := s.router()
		x := r.ch.Exchange("headers", "headers", nil)
		r.bind("none", "", x, nil)
		r.bind("all", "", x, amqp.Table{"x-match": "all", "a": 1, "b": "two"})
		r.bind("any", "", x, amqp.Table{"x-match": "any", "a": 1, "b": "two"})
		r.bind("any of nothing", "", x, amqp.Table{"x-match": "any"})
		r.bind("by default", "", x, amqp.Table{"a": 1, "b": "two"})
		r.bind("b is there", "", x, amqp.Table{"b": nil})
		r.bind("any is there", "", x, amqp.Table{"x-match": "any", "b": nil, "c": nil})
		r.bind("the key does not matter", "k", x, amqp.Table{"c": true})
		for _, h := range []amqp.Table{
			nil,
			{},
			{"a": 1},
			{"a": 1, "b": "two"},
			{"a": 1, "b": "two", "more": "m"},
			{"a": 2, "b": "two"},
			{"a": 2, "b": "three"},
			{"A": 1, "B": "two"},
			{"b": nil},
			{"c": true},
		} {
			r.send(x, "", h)
		}
	}},
	{"headers-that-begin-with-x", func(s *Script) {
		r := s.router()
		x := r.ch.Exchange("headers", "headers", nil)
		for _, match := range []string{"all", "any", "all-with-x", "any-with-x"} {
			r.bind(match, "", x, amqp.Table{"x-match": match, "x-a": 1, "b": 1})
			r.bind(match+" of x alone", "", x, amqp.Table{"x-match": match, "x-a": 1})
		}
		for _, h := range []amqp.Table{{}, {"x-a": 1}, {"b": 1}, {"x-a": 1, "b": 1}, {"x-a": 2, "b": 1}, {"x-match": "any"}} {
			r.send(x, "", h)
		}
	}},
	{"headers-are-compared-by-their-values", func(s *Script) {
		values := []struct {
			name  string
			value any
		}{
			{"int32", int32(1)},
			{"int64", int64(1)},
			{"int16", int16(1)},
			{"int8", int8(1)},
			{"byte", byte(1)},
			{"float64", float64(1)},
			{"float32", float32(1)},
			{"1000", int32(1000)},
			{"false", false},
			{"float32 0.1", float32(0.1)},
			{"float64 0.1", 0.1},
			{"decimal of 10", amqp.Decimal{Value: 10, Scale: 1}},
			{"string", "1"},
			{"bytes", []byte("1")},
			{"true", true},
			{"time", time.Unix(1, 0)},
			{"decimal", amqp.Decimal{Value: 1}},
			{"array", []any{int32(1)}},
			{"array of int64", []any{int64(1)}},
			{"table", amqp.Table{"n": int32(1)}},
			{"empty", ""},
			{"void", nil},
		}
		r := s.router()
		x := r.ch.Exchange("headers", "headers", nil)
		for _, v := range values {
			r.bind(v.name, "", x, amqp.Table{"h": v.value})
		}
		for _, v := range values {
			s.Note("%s: %s", v.name, r.publish(x, "", amqp.Table{"h": v.value}))
		}
	}},
	{"x-match-is-checked", func(s *Script) {
		r := s.router("q")
		x := r.ch.Exchange("headers", "headers", nil)
		for _, v := range []any{"all", "most", "", 1, nil, true, []byte("any")} {
			s.Try("x-match "+value(v), func(ch *Channel) error {
				return ch.QueueBind(r.queues[0], "", x, false, amqp.Table{"x-match": v})
			})
		}
	}},
}

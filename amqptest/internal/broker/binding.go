package broker

import (
	"bytes"
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A binding routes from an exchange to a queue or to another exchange.
type binding struct {
	source, destination, key string
	exchange                 bool // the destination is an exchange
	arguments                codec.Table
}

func (x binding) equals(y binding) bool {
	return x.source == y.source && x.destination == y.destination && x.exchange == y.exchange && x.key == y.key &&
		bytes.Equal(codec.AppendTable(nil, sorted(x.arguments)), codec.AppendTable(nil, sorted(y.arguments)))
}

func sorted(t codec.Table) codec.Table {
	t = slices.Clone(t)
	slices.SortStableFunc(t, func(a, b codec.Field) int { return strings.Compare(a.Key, b.Key) })
	return t
}

func (ch *channel) bindQueue(add bool, queue, source, key string, arguments codec.Table) *exception {
	if queue == "" {
		if ch.last == "" {
			return raise(notFound, "no previously declared queue")
		}
		queue = ch.last
		if key == "" {
			key = ch.last
		}
	}
	return ch.bind(add, binding{source: source, destination: queue, key: key, arguments: arguments})
}

func (ch *channel) bind(add bool, bd binding) *exception {
	v := ch.c.vhost
	bd.source, bd.destination = plain(bd.source), plain(bd.destination)
	if !bd.exchange && strings.HasPrefix(bd.destination, replyPrefix) {
		return raise(accessRefused, "cannot bind or unbind to a volatile (direct reply-to) queue")
	}
	if bd.exchange && bd.destination == "" || bd.source == "" {
		return errDefaultExchange()
	}
	x := v.exchanges[bd.source]
	q := v.queues[bd.destination]
	switch { // RabbitMQ checks the source first
	case x == nil && add:
		return v.noExchange(bd.source)
	case bd.exchange && v.exchanges[bd.destination] == nil && add:
		return v.noExchange(bd.destination)
	case !bd.exchange && q == nil && add:
		return ch.noQueue(bd.destination)
	case x == nil:
		return nil
	}
	if e := x.checkBinding(bd); e != nil && add {
		return e
	}
	i := slices.IndexFunc(x.bindings, bd.equals)
	if q != nil && !bd.exchange && (add || i >= 0) { // the owner of a queue that is not bound is not checked
		if e := ch.checkOwner(q); e != nil {
			return e
		}
	}
	switch {
	case add && i < 0:
		x.bindings = append(x.bindings, bd)
		v.retryDeadLetters()
	case !add && i >= 0:
		x.bindings = slices.Delete(x.bindings, i, i+1)
		if len(x.bindings) == 0 && x.autoDelete {
			ch.b.removeExchange(v, x)
		}
	}
	return nil
}

func (x *exchange) checkBinding(bd binding) *exception {
	switch x.kind {
	case kindTopic:
		n := 0
		for w := range strings.SplitSeq(bd.key, ".") {
			if w == "#" {
				n++
			}
		}
		if n > 2 {
			return raise(preconditionFailed, "Topic binding key '%s' uses %d '#' wildcards, at most 2 are allowed", bd.key, n)
		}
	case kindHeaders:
		v, ok := bd.arguments.Get("x-match")
		if !ok {
			return nil
		}
		s, ok := v.(string)
		if !ok {
			return raise(preconditionFailed, "Invalid x-match field type %s (value %v); expected longstr", codec.TypeName(v), codec.Term(v))
		}
		if !slices.Contains([]string{"all", "any", "all-with-x", "any-with-x"}, s) {
			return raise(preconditionFailed,
				"Invalid x-match field value %s; expected all, any, all-with-x, or any-with-x", codec.Erlang([]byte(s)))
		}
	}
	return nil
}

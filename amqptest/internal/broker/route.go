package broker

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// route returns the queues that a message is routed to, without duplicates, sorted by name.
func (v *vhost) route(x *exchange, m *message) []*queue {
	seen := map[*exchange]bool{x: true}
	found := map[*queue]bool{}
	for work := []*exchange{x}; len(work) > 0; work = work[1:] {
		x := work[0]
		queues, exchanges := v.targets(x, m)
		if len(queues)+len(exchanges) == 0 {
			if name, ok := x.arguments.Get("alternate-exchange"); ok {
				if s, ok := name.(string); ok {
					exchanges = append(exchanges, s)
				}
			}
		}
		for _, q := range queues {
			found[q] = true
		}
		for _, name := range exchanges {
			if next := v.exchanges[name]; next != nil && !seen[next] {
				seen[next] = true
				work = append(work, next)
			}
		}
	}
	queues := make([]*queue, 0, len(found))
	for q := range found {
		queues = append(queues, q)
	}
	if len(queues) > 1 {
		slices.SortFunc(queues, func(a, b *queue) int { return strings.Compare(a.name, b.name) })
	}
	return queues
}

// targets returns the direct destinations of a message. A deleted destination still counts as one.
func (v *vhost) targets(x *exchange, m *message) (queues []*queue, exchanges []string) {
	if x.name == "" {
		for _, k := range m.keys {
			if q := v.queues[k]; q != nil {
				queues = append(queues, q)
			}
		}
		return queues, nil
	}
	for _, bd := range x.bindings {
		if !bd.matches(x.kind, m) {
			continue
		}
		if bd.exchange {
			exchanges = append(exchanges, bd.destination)
		} else if q := v.queues[bd.destination]; q != nil {
			queues = append(queues, q)
		}
	}
	return queues, exchanges
}

func (x binding) matches(kind string, m *message) bool {
	switch kind {
	case kindFanout:
		return true
	case kindDirect:
		return slices.Contains(m.keys, x.key)
	case kindTopic:
		pattern := words(x.key)
		return slices.ContainsFunc(m.keys, func(k string) bool { return matchTopic(pattern, words(k)) })
	}
	return x.matchHeaders(m.properties.Headers)
}

// words splits a topic. An empty topic has no words.
func words(topic string) []string {
	if topic == "" {
		return nil
	}
	return strings.Split(topic, ".")
}

// matchTopic matches words against a pattern: * stands for one word, # for any number.
func matchTopic(pattern, words []string) bool {
	// back is the position in words to continue at if the last # has to match one word more.
	hash, back := -1, 0
	p, w := 0, 0
	for w < len(words) {
		switch {
		case p < len(pattern) && pattern[p] == "#":
			hash, back = p, w
			p++
		case p < len(pattern) && (pattern[p] == "*" || pattern[p] == words[w]):
			p++
			w++
		case hash >= 0:
			back++
			p, w = hash+1, back
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == "#" {
		p++
	}
	return p == len(pattern)
}

func (x binding) matchHeaders(headers codec.Table) bool {
	mode := "all"
	if v, ok := x.arguments.Get("x-match"); ok {
		mode, _ = v.(string)
	}
	anyOf, withX := strings.HasPrefix(mode, "any"), strings.HasSuffix(mode, "-with-x")
	for _, f := range x.arguments {
		if f.Key == "x-match" || !withX && strings.HasPrefix(f.Key, "x-") {
			continue
		}
		v, ok := headers.Last(f.Key) // unlike elsewhere, the last of several fields counts
		if ok && f.Value != nil {
			ok = equalValues(term(v, time.Millisecond), term(f.Value, time.Second))
		}
		if ok == anyOf {
			return anyOf
		}
	}
	return !anyOf
}

// term converts a header to the form in which RabbitMQ compares it: a timestamp becomes a number, of milliseconds in
// messages and of seconds in bindings.
func term(v any, unit time.Duration) any {
	switch v := v.(type) {
	case time.Time:
		return v.Unix() * int64(time.Second/unit)
	case float32:
		return float64(v)
	}
	return v
}

// equalValues compares values like RabbitMQ: numbers by value, regardless of their width.
func equalValues(a, b any) bool {
	if x, ok := codec.Integer(a); ok {
		y, ok := codec.Integer(b)
		return ok && x == y
	}
	one := func(v any) []byte {
		if b, ok := v.([]byte); ok { // RabbitMQ treats strings as binaries too
			v = string(b)
		}
		return codec.AppendTable(nil, codec.Table{{Value: v}})
	}
	return bytes.Equal(one(a), one(b))
}

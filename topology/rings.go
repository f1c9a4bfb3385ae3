package topology

import (
	"strings"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// checkRings finds rings of queues through which messages go round by expiry alone. RabbitMQ
// drops a message that comes back to a queue when none of its hops was a rejection, and tells
// neither its publisher nor anyone else (https://www.rabbitmq.com/docs/dlx#cycles).
//
// It follows what the topology states: a dead-letter exchange with a routing key, or a
// fanout. Where the routing key is the message's own it assumes no ring.
func (t Topology) checkRings(f *faults, queues map[string]int) {
	next := make([][]int, len(t.Queues)) // where the expired messages of a queue go
	for i, q := range t.Queues {
		args := q.request().args
		exchange, ok := args["x-dead-letter-exchange"].(string)
		if !ok || args["x-message-ttl"] == nil {
			continue
		}
		key, keyed := args["x-dead-letter-routing-key"].(string)
		t.route(exchange, key, keyed, map[string]bool{}, func(queue string) {
			if j, ok := queues[queue]; ok {
				next[i] = append(next[i], j)
			}
		})
	}
	for i, q := range t.Queues {
		if ring := ringFrom(i, next); ring != nil {
			f.at = place("Queues", i, q.Name)
			f.add(".DeadLetter", "messages that expire go round "+t.path(ring)+
				", and RabbitMQ silently drops one that comes back without a rejection",
				"take the TTL off the queue that has consumers, so that only their rejections start a round")
		}
	}
}

// ringFrom returns a way from a queue back to itself, or nil. Only queues behind it in the
// list count, so that each ring is reported once.
func ringFrom(start int, next [][]int) []int {
	seen := make([]bool, len(next))
	var walk func(path []int) []int
	walk = func(path []int) []int {
		for _, j := range next[path[len(path)-1]] {
			if j == start {
				return append(path, j)
			}
			if j < start || seen[j] {
				continue
			}
			seen[j] = true
			if ring := walk(append(path, j)); ring != nil {
				return ring
			}
		}
		return nil
	}
	return walk([]int{start})
}

func (t Topology) path(ring []int) string {
	names := make([]string, len(ring))
	for i, j := range ring {
		names[i] = wire.Quote(t.Queues[j].Name)
	}
	return strings.Join(names, " → ")
}

// route calls to for each queue that a message reaches from an exchange through the
// topology's bindings. Without keyed the routing key is unknown.
func (t Topology) route(exchange, key string, keyed bool, seen map[string]bool, to func(queue string)) {
	if exchange == "" {
		if keyed {
			to(key)
		}
		return
	}
	if seen[exchange] {
		return
	}
	seen[exchange] = true
	kind := t.exchangeType(exchange)
	for _, b := range t.Bindings {
		if b.Source != exchange || !kind.routes(b.Key, key, keyed) {
			continue
		}
		if b.Queue != "" {
			to(b.Queue)
		} else if b.Exchange != "" {
			t.route(b.Exchange, key, keyed, seen, to)
		}
	}
}

func (t Topology) exchangeType(name string) ExchangeType {
	for _, x := range t.Exchanges {
		if x.Name == name {
			return x.Type
		}
	}
	// The exchanges that every broker has are named after their types: amq.topic.
	if kind, ok := strings.CutPrefix(name, "amq."); ok {
		return ExchangeType(kind)
	}
	return ""
}

func (x ExchangeType) routes(pattern, key string, keyed bool) bool {
	switch x {
	case Fanout:
		return true
	case Direct:
		return keyed && pattern == key
	case Topic:
		return pattern == "#" || keyed && topicMatches(pattern, key)
	}
	return false
}

// topicMatches compares word by word and, where that fails, lets the last "#" take one more.
func topicMatches(pattern, key string) bool {
	p, words := strings.Split(pattern, "."), strings.Split(key, ".")
	i, j := 0, 0
	hash, taken := -1, 0 // the last "#", and the first word that it has not taken
	for j < len(words) {
		switch {
		case i < len(p) && p[i] == "#":
			hash, taken = i, j
			i++
		case i < len(p) && (p[i] == "*" || p[i] == words[j]):
			i++
			j++
		case hash >= 0:
			taken++
			i, j = hash+1, taken
		default:
			return false
		}
	}
	for i < len(p) && p[i] == "#" {
		i++
	}
	return i == len(p)
}

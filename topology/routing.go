package topology

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// routing follows messages through the exchanges and bindings of a topology.
type routing struct {
	Topology
	queues    []deadLetters    // by the queue's place in Queues
	names     map[string]int   // of queues
	exchanges map[string]int   // places in Exchanges
	from, to  map[string][]int // bindings by source, and by destination exchange
	into      map[string][]int // bindings by destination queue
	steps     budget
}

// A budget bounds the work for a topology that connects everything to everything. Unchecked paths count as harmless.
type budget struct{ left, floor int }

const (
	maxSteps = 5_000 // of a topology, in addition to perQueue
	perQueue = 100   // to find the entrances of a queue
	perState = 1000  // to find a cycle
)

// allow lets the next piece of work take n steps.
func (b *budget) allow(n int) { b.floor = max(b.left-n, 0) }

// spend reports whether there is a step left.
func (b *budget) spend() bool {
	b.left = max(b.left-1, 0)
	return b.left > b.floor
}

// deadLetters holds the target of a queue's dead letters and the reasons for them.
type deadLetters struct {
	exchange string
	key      *string // nil keeps the message's own
	follows  bool    // it has a dead-letter exchange
	reasons  []reason
}

// A reason explains why a queue dead-letters a message that no consumer rejected.
type reason string

const (
	expired reason = "expired"
	full    reason = "full"
	limited reason = "delivery limit"
)

// reasons returns why q dead-letters messages without a rejection. The default delivery limit is left out: it is a setting of
// the broker, and the usual pair of a work queue and a wait queue would be refused. A message's own expiration is unknown
// here.
func (q Queue) reasons() (reasons []reason) {
	if q.kind() == Stream {
		return nil
	}
	args := q.request().args
	if args["x-message-ttl"] != nil {
		reasons = append(reasons, expired)
	}
	if (args["x-max-length"] != nil || args["x-max-length-bytes"] != nil) && args["x-overflow"] != RejectPublish {
		reasons = append(reasons, full)
	}
	if limit, ok := integer(args["x-delivery-limit"]); ok && limit >= 0 && q.kind() == Quorum {
		reasons = append(reasons, limited)
	}
	return reasons
}

// newRouting returns the queues of t and their dead-lettering. Call connect before the rest is used.
func newRouting(t Topology) *routing {
	m := &routing{
		Topology: t, steps: budget{left: maxSteps + perQueue*len(t.Queues)}, queues: make([]deadLetters, len(t.Queues)), names: make(map[string]int, len(t.Queues)),
		exchanges: map[string]int{}, from: map[string][]int{}, to: map[string][]int{}, into: map[string][]int{},
	}
	for i, q := range t.Queues {
		m.names[q.Name] = i
		args := q.request().args
		d := &m.queues[i]
		if d.exchange, d.follows = args["x-dead-letter-exchange"].(string); !d.follows {
			continue
		}
		if key, ok := args["x-dead-letter-routing-key"].(string); ok {
			d.key = &key
		}
		d.reasons = q.reasons()
	}
	return m
}

// connect adds the exchanges and bindings.
func (m *routing) connect() {
	for i, x := range m.Exchanges {
		m.exchanges[x.Name] = i
	}
	for i, b := range m.Bindings {
		m.from[b.Source] = append(m.from[b.Source], i)
		if b.Queue != "" {
			m.into[b.Queue] = append(m.into[b.Queue], i)
		} else {
			m.to[b.Exchange] = append(m.to[b.Exchange], i)
		}
	}
}

// A state describes messages in a queue: their routing key, if it is known, and the bindings that they have matched.
// Messages with the same key and headers match these bindings again.
type state struct {
	queue int
	facts
}

type facts struct {
	key *string
	// ways are indexes of bindings, and of alternate exchanges: ^i is the way from Exchanges[i] to its alternate exchange.
	ways []int
}

func (s state) id() string {
	key := ""
	if s.key != nil {
		key = "=" + *s.key
	}
	return fmt.Sprint(s.queue, s.ways, key)
}

func (k facts) took(way int) bool { return slices.Contains(k.ways, way) }

// and returns k with another way.
func (k facts) and(way int, key *string) facts {
	if key == nil {
		key = k.key
	}
	ways := k.ways
	if !k.took(way) {
		ways = append(slices.Clip(ways), way)
		slices.Sort(ways)
	}
	return facts{key, ways}
}

// each calls check for every state that messages can have in queues with dead-lettering: as published, and dead-lettered for
// any reason, rejections included.
func (m *routing) each(check func(state)) {
	var all []state
	seen := map[string]bool{}
	add := func(s state) {
		if id := s.id(); m.queues[s.queue].follows && !seen[id] {
			seen[id] = true
			all = append(all, s)
		}
	}
	for i, q := range m.Queues {
		if !m.queues[i].follows {
			continue
		}
		m.steps.allow(perQueue)
		bindings := m.into[q.Name]
		if len(bindings) == 0 { // only the default exchange leads to it
			add(state{i, facts{key: &q.Name}})
		}
		for _, b := range bindings {
			m.entrances(b, facts{}, map[string]bool{}, func(k facts) { add(state{i, k}) })
		}
	}
	for i := 0; i < len(all); i++ { //nolint:intrange // all grows
		m.steps.allow(perState)
		check(all[i])
		m.steps.allow(perState)
		for _, next := range m.deadLetters(all[i]) {
			add(next)
		}
	}
}

// entrances calls found for each path from a publisher that ends with binding b.
func (m *routing) entrances(b int, k facts, seen map[string]bool, found func(facts)) {
	source := m.Bindings[b].Source
	var key *string
	if m.kind(source) == Direct {
		key = &m.Bindings[b].Key
	}
	m.upstream(source, k.and(b, key), seen, found)
}

// upstream calls found for each path from a publisher to an exchange. k are the facts about the messages from there on.
func (m *routing) upstream(exchange string, k facts, seen map[string]bool, found func(facts)) {
	if seen[exchange] || !m.steps.spend() {
		return
	}
	seen[exchange] = true
	defer delete(seen, exchange)
	if i, ok := m.exchanges[exchange]; !ok || !m.Exchanges[i].Internal {
		found(k)
	}
	for _, b := range m.to[exchange] {
		m.entrances(b, k, seen, found)
	}
	for i, x := range m.Exchanges {
		if name, _ := x.request().args["alternate-exchange"].(string); name != "" && name == exchange {
			m.upstream(x.Name, k.and(^i, nil), seen, found)
		}
	}
}

// deadLetters returns the states that all dead letters of s reach.
func (m *routing) deadLetters(s state) (next []state) {
	d, k := m.queues[s.queue], s.facts
	if !d.follows {
		return nil
	}
	if d.key != nil && (k.key == nil || *k.key != *d.key) {
		k = facts{key: d.key}
		for _, way := range s.ways { // dead-lettering keeps the headers
			if way >= 0 && m.kind(m.Bindings[way].Source) == Headers {
				k = k.and(way, nil)
			}
		}
	}
	m.route(d.exchange, k, map[string]bool{}, func(queue string, k facts) {
		if i, ok := m.names[queue]; ok {
			next = append(next, state{i, k})
		}
	})
	return next
}

// route calls to for each queue that all messages with k reach from an exchange.
func (m *routing) route(exchange string, k facts, seen map[string]bool, to func(queue string, k facts)) {
	if exchange == "" {
		if k.key != nil {
			to(*k.key, k)
		}
		return
	}
	if seen[exchange] || !m.steps.spend() {
		return
	}
	seen[exchange] = true
	kind := m.kind(exchange)
	place, own := m.exchanges[exchange]
	unroutable := own && k.took(^place)
	possible := false
	for _, i := range m.from[exchange] {
		b := m.Bindings[i]
		possible = possible || kind.mayRoute(b, k)
		if unroutable || !m.routes(kind, i, k) {
			continue
		}
		if b.Queue != "" {
			to(b.Queue, k.and(i, nil))
		} else {
			m.route(b.Exchange, k.and(i, nil), seen, to)
		}
	}
	if !own || possible && !unroutable {
		return
	}
	if alternate, _ := m.Exchanges[place].request().args["alternate-exchange"].(string); alternate != "" {
		m.route(alternate, k.and(^place, nil), seen, to)
	}
}

func (m *routing) kind(exchange string) ExchangeType { return m.Topology.kind(m.exchanges, exchange) }

// kind returns the type by which an exchange routes, or "" if the topology does not show it. places are the indexes of
// its exchanges.
func (t Topology) kind(places map[string]int, exchange string) ExchangeType {
	if i, ok := places[exchange]; ok {
		x := t.Exchanges[i]
		if x.Type != "x-delayed-message" {
			return x.Type
		}
		kind, _ := x.Arguments["x-delayed-type"].(string)
		return ExchangeType(kind)
	}
	// The exchanges that every broker has are named after their types.
	switch exchange {
	case "amq.direct", "amq.fanout", "amq.topic", "amq.headers":
		return ExchangeType(strings.TrimPrefix(exchange, "amq."))
	case "amq.match":
		return Headers
	}
	return ""
}

// spreads reports whether an exchange ignores the meaning of routing keys: it routes to all bindings, or to one that a hash
// or chance selects, so that each binding gets a part of the messages.
func (x ExchangeType) spreads() bool {
	switch x {
	case Fanout, "x-recent-history", "x-consistent-hash", "x-modulus-hash", "x-random", "x-local-random":
		return true
	}
	return false
}

// mayRoute reports whether a binding of an exchange of type x may match messages with k.
func (x ExchangeType) mayRoute(b Binding, k facts) bool {
	switch {
	case k.key == nil:
		return true
	case x == Direct:
		return b.Key == *k.key
	case x == Topic:
		return topicMatches(b.Key, *k.key)
	}
	return true
}

// routes reports whether the binding Bindings[i] matches all messages with k.
func (m *routing) routes(x ExchangeType, i int, k facts) bool {
	b := m.Bindings[i]
	if k.took(i) || x.spreads() {
		return true
	}
	switch x {
	case Direct:
		return k.key != nil && b.Key == *k.key
	case Topic:
		if k.key != nil {
			return topicMatches(b.Key, *k.key)
		}
		return covers(b.Key, "#") || slices.ContainsFunc(k.ways, func(way int) bool {
			return way >= 0 && m.kind(m.Bindings[way].Source) == Topic && covers(b.Key, m.Bindings[way].Key)
		})
	case Headers:
		return matchesAll(b.Arguments) || slices.ContainsFunc(k.ways, func(way int) bool {
			return way >= 0 && m.kind(m.Bindings[way].Source) == Headers && reflect.DeepEqual(b.Arguments, m.Bindings[way].Arguments)
		})
	}
	return false
}

// matchesAll reports whether a binding of a headers exchange matches every message: it names no header, and not "any".
func matchesAll(args amqp.Table) bool {
	match, ok := args["x-match"]
	return len(args) == 0 || ok && len(args) == 1 && (match == "all" || match == "all-with-x")
}

// topicMatches compares a binding key with a routing key, word by word.
func topicMatches(pattern, key string) bool {
	return matchWords(pattern, key, func(p, word string) bool { return p == "*" || p == word })
}

// covers reports whether pattern matches every key that narrow matches.
func covers(pattern, narrow string) bool {
	return matchWords(pattern, narrow, func(p, word string) bool { return p == word || p == "*" && word != "#" })
}

// matchWords compares word by word. If that fails, it lets the last "#" match one more word.
func matchWords(pattern, key string, same func(p, word string) bool) bool {
	i, j := 0, 0         // where the next words begin
	hash, taken := -1, 0 // after the last "#", and after its match
	for j <= len(key) {
		w, next := wordAt(key, j)
		if i <= len(pattern) {
			p, after := wordAt(pattern, i)
			if p == "#" {
				hash, taken = after, j
				i = after
				continue
			}
			if same(p, w) {
				i, j = after, next
				continue
			}
		}
		if hash < 0 {
			return false
		}
		_, taken = wordAt(key, taken)
		i, j = hash, taken
	}
	for i <= len(pattern) {
		p, after := wordAt(pattern, i)
		if p != "#" {
			return false
		}
		i = after
	}
	return true
}

// wordAt returns the word of s that begins at i, and where the next one begins: behind the end of s if it is the last.
func wordAt(s string, i int) (word string, next int) {
	if n := strings.IndexByte(s[i:], '.'); n >= 0 {
		return s[i : i+n], i + n + 1
	}
	return s[i:], len(s) + 1
}

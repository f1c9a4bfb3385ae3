package diagram

import (
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/topology"
)

// A graph is the drawn part of a topology.
type graph struct {
	nodes []*node
	edges []*edge
}

// A node is an exchange or a queue.
type node struct {
	id       int // its index in graph.nodes
	queue    bool
	name     string   // as drawn
	about    []string // type and attributes
	declared bool
	role     role

	raw      string
	exchange topology.ExchangeType // by which an exchange routes, or empty if it is unknown
}

// String returns the full text about n, for a tooltip.
func (n *node) String() string {
	return n.kind() + " " + n.name + ": " + strings.Join(n.about, ", ")
}

func (n *node) kind() string {
	if n.queue {
		return "queue"
	}
	return "exchange"
}

// A role is the purpose of a queue, as its attributes show it.
type role int

const (
	plain   role = iota
	wait         // delays messages: TTL and dead-letter target
	parking      // keeps dead letters
)

// A line is a kind of edge.
type line int

const (
	binding line = iota
	deadLetter
	alternate
)

// An edge joins two nodes. All bindings from one node to another are one edge.
type edge struct {
	from, to *node
	line     line
	texts    []string // keys, or key and reason of dead letters
	keys     []string // of bindings, or of dead letters if it is not the message's own
}

// most is the number of lines of a label.
const most = 4

// label returns the texts of e in one line if it fits, else in one line each, and shortens the list.
func (e *edge) label(fits func(string) bool) []string {
	if all := strings.Join(e.texts, ", "); len(e.texts) == 0 || fits(all) {
		return []string{all}
	}
	if n := len(e.texts); n > most {
		return append(append([]string{}, e.texts[:most-1]...), "and "+count(n-most+1, "more", "more"))
	}
	return e.texts
}

// String returns the full text about e, for a tooltip.
func (e *edge) String() string {
	s := e.from.name + " → " + e.to.name
	switch e.line {
	case deadLetter:
		s += ", dead letters"
	case alternate:
		s += ", alternate exchange"
	}
	if len(e.texts) > 0 {
		s += ": " + strings.Join(e.texts, ", ")
	}
	return s
}

type ends struct {
	from, to int
	line     line
}

type builder struct {
	graph
	exchanges, queues map[string]*node
	known             map[ends]*edge
}

func newGraph(t topology.Topology) *graph {
	b := builder{exchanges: map[string]*node{}, queues: map[string]*node{}, known: map[ends]*edge{}}
	for _, x := range t.Exchanges {
		if b.exchanges[x.Name] == nil {
			n := b.node(x.Name, false)
			n.about, n.declared, n.exchange = aboutExchange(x), true, routing(x)
			b.exchanges[x.Name] = n
		}
	}
	places := make([]*node, len(t.Queues))
	for i, q := range t.Queues {
		if q.Name == "" || b.queues[q.Name] == nil { // the broker names each queue without a name
			n := b.node(q.Name, true)
			n.about, n.declared = aboutQueue(q), true
			b.queues[q.Name], places[i] = n, n
		}
	}
	for _, bound := range t.Bindings {
		from := b.exchange(bound.Source)
		text := bindingText(bound, from.exchange)
		if bound.Queue != "" {
			b.edge(from, b.queue(bound.Queue), binding, text, bound.Key)
		}
		if bound.Exchange != "" {
			b.edge(from, b.exchange(bound.Exchange), binding, text, bound.Key)
		}
	}
	for _, x := range t.Exchanges {
		if name := alternateOf(x); name != "" {
			b.edge(b.exchange(x.Name), b.exchange(name), alternate, "unroutable")
		}
	}
	for i, q := range t.Queues {
		if places[i] != nil {
			b.deadLetters(places[i], q)
		}
	}
	b.roles(t, places)
	return &b.graph
}

func (b *builder) node(name string, queue bool) *node {
	n := &node{id: len(b.nodes), queue: queue, raw: name, name: visible(name)}
	switch {
	case name == "" && queue:
		n.name = "(named by the broker)"
	case name == "":
		n.name = "(default exchange)"
	}
	b.nodes = append(b.nodes, n)
	return n
}

// exchange returns the node of an exchange, which may be declared elsewhere.
func (b *builder) exchange(name string) *node {
	n := b.exchanges[name]
	if n == nil {
		n = b.node(name, false)
		n.about = []string{"declared elsewhere"}
		if kind := builtIn(name); kind != "" {
			n.about, n.exchange = []string{string(kind), "built in"}, kind
		}
		b.exchanges[name] = n
	}
	return n
}

func (b *builder) queue(name string) *node {
	n := b.queues[name]
	if n == nil {
		n = b.node(name, true)
		n.about = []string{"declared elsewhere"}
		b.queues[name] = n
	}
	return n
}

func (b *builder) edge(from, to *node, l line, text string, key ...string) {
	at := ends{from.id, to.id, l}
	e := b.known[at]
	if e == nil {
		e = &edge{from: from, to: to, line: l}
		b.known[at] = e
		b.edges = append(b.edges, e)
	}
	if text != "" {
		e.texts = append(e.texts, text)
	}
	e.keys = append(e.keys, key...)
}

// deadLetters adds the way of the dead letters of q.
func (b *builder) deadLetters(n *node, q topology.Queue) {
	d, ok := deadLettersOf(q)
	if !ok {
		return
	}
	var to *node
	switch {
	case d.exchange != "":
		to = b.exchange(d.exchange)
	case d.key != "":
		to = b.queue(d.key)
		d.key = "" // it is the name of the target
	case b.bound(n):
		to = b.node("", true)
		to.name, to.about = "(queue of the routing key)", []string{"through the default exchange"}
	default: // only messages that were published to its name are in the queue
		to = n
	}
	b.edge(n, to, deadLetter, d.String(), d.key)
}

func (b *builder) bound(n *node) bool {
	for _, e := range b.edges {
		if e.to == n && e.line == binding {
			return true
		}
	}
	return false
}

// roles finds wait queues and parking queues. places are the nodes of t.Queues.
func (b *builder) roles(t topology.Topology, places []*node) {
	attributes := make([]limits, len(b.nodes))
	for i, q := range t.Queues {
		if n := places[i]; n != nil {
			attributes[n.id] = limitsOf(q)
			if l := attributes[n.id]; l.expires && l.deadLetters {
				n.role = wait
			}
		}
	}
	entered := make([]bool, len(b.nodes))
	for _, e := range b.edges {
		entered[e.to.id] = true
	}
	filled := b.filled()
	for _, n := range places {
		if n == nil || attributes[n.id].expires || attributes[n.id].deadLetters || attributes[n.id].stream {
			continue
		}
		if filled[n] || attributes[n.id].unlimited && !entered[n.id] {
			n.role = parking
		}
	}
}

// filled returns the nodes that dead letters reach which did not expire in a wait queue. Direct exchanges route them by
// their key; other exchanges count as routing them to all bindings.
func (b *builder) filled() map[*node]bool {
	type stay struct {
		at  *node
		key string // empty if it is unknown
	}
	out := make([][]*edge, len(b.nodes))
	var todo []stay
	for _, e := range b.edges {
		out[e.from.id] = append(out[e.from.id], e)
		if e.line == deadLetter && e.from.role != wait {
			todo = append(todo, stay{e.to, e.keys[0]})
		}
	}
	filled, seen := map[*node]bool{}, map[stay]bool{}
	for ; len(todo) > 0; todo = todo[1:] {
		s := todo[0]
		filled[s.at] = true
		if s.at.queue || seen[s] {
			continue
		}
		seen[s] = true
		for _, e := range out[s.at.id] {
			if s.key == "" || s.at.exchange != topology.Direct || e.line != binding || slices.Contains(e.keys, s.key) {
				todo = append(todo, stay{e.to, s.key})
			}
		}
	}
	return filled
}

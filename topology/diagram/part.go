package diagram

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

const (
	maxColumns  = 6 // of a part
	bandColumns = 4 // of a part of a component that has more columns: stubs take two
)

// A part of the picture is a connected component of the graph, or some columns of a long one.
type part struct {
	columns [][]*vertex
	all     []*vertex
}

// A vertex is a box or a bend of a long edge.
type vertex struct {
	n     *node // nil for a bend
	stub  bool  // n is drawn in another part, and here only named
	loops []*edge

	column, place int // place in the column, from the top
	y, up, down   int // middle, and the extent above and below
	before, after []*arc
	left, right   []*port
}

// An arc is an edge, or a piece of one, between neighbouring columns.
type arc struct {
	e        *edge
	from, to *vertex // from the column before
	back     bool    // the edge runs from right to left
	out, in  *port
}

// parts splits g. The largest part is the first. rest are the nodes without an edge.
func (g *graph) parts() (parts []*part, rest []*node) {
	group := make([]int, len(g.nodes)) // a forest: the parent of each node
	joined := make([]bool, len(g.nodes))
	for i := range group {
		group[i] = i
	}
	find := func(i int) int {
		for ; group[i] != i; i = group[i] {
			group[i] = group[group[i]]
		}
		return i
	}
	join := func(a, b *node) {
		joined[a.id], joined[b.id] = true, true
		x, y := find(a.id), find(b.id)
		group[max(x, y)] = min(x, y)
	}
	for _, e := range g.edges {
		join(e.from, e.to)
	}
	kin := g.kin(joined)
	for n, parent := range kin {
		join(n, parent)
	}
	r := g.rank(kin)

	type component struct {
		nodes []*node
		edges []*edge
		width int
	}
	byRoot := map[int]*component{}
	var components []*component
	for _, n := range g.nodes {
		if !joined[n.id] {
			rest = append(rest, n)
			continue
		}
		c := byRoot[find(n.id)]
		if c == nil {
			c = &component{}
			byRoot[find(n.id)] = c
			components = append(components, c)
		}
		c.nodes = append(c.nodes, n)
		c.width = max(c.width, r.column[n.id]+1)
	}
	for _, e := range g.edges {
		c := byRoot[find(e.from.id)]
		c.edges = append(c.edges, e)
	}
	slices.SortStableFunc(components, func(a, b *component) int { return cmp.Compare(len(b.nodes), len(a.nodes)) })
	for _, c := range components {
		width := maxColumns
		if c.width > maxColumns {
			width = bandColumns
		}
		parts = append(parts, r.split(c.nodes, c.edges, width)...)
	}
	return parts, rest
}

// kin finds, for each queue without an edge, the joined queue whose name it extends.
func (g *graph) kin(joined []bool) map[*node]*node {
	named := map[string]*node{}
	for _, n := range g.nodes {
		if n.queue && joined[n.id] {
			named[n.raw] = n
		}
	}
	kin := map[*node]*node{}
	for _, n := range g.nodes {
		if joined[n.id] || !n.queue {
			continue
		}
		for name, found := cutLast(n.raw); found; name, found = cutLast(name) {
			if parent := named[name]; parent != nil && name != "" {
				kin[n] = parent
				break
			}
		}
	}
	return kin
}

func cutLast(name string) (prefix string, found bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", false
	}
	return name[:i], true
}

// split returns the parts of a component, each with at most width columns besides stubs. An edge between two parts is drawn in
// both, with a stub for its other end.
func (r *ranking) split(nodes []*node, edges []*edge, width int) []*part {
	least := r.column[nodes[0].id]
	for _, n := range nodes {
		least = min(least, r.column[n.id])
	}
	column := func(n *node) int { return r.column[n.id] - least }
	bands := map[int]*part{}
	vertices := map[*node]*vertex{}
	for _, n := range nodes {
		band := column(n) / width
		if bands[band] == nil {
			bands[band] = &part{}
		}
		vertices[n] = bands[band].vertex(n, column(n)%width+1)
	}
	type stub struct {
		band  int
		n     *node
		right bool
	}
	stubs := map[stub]*vertex{}
	stand := func(s stub, column int) *vertex {
		v := stubs[s]
		if v == nil {
			v = bands[s.band].vertex(s.n, column)
			v.stub = true
			stubs[s] = v
		}
		return v
	}
	for _, e := range edges {
		if e.from == e.to {
			vertices[e.from].loops = append(vertices[e.from].loops, e)
			continue
		}
		from, to := e.from, e.to
		if r.back[e] {
			from, to = to, from
		}
		u, v := vertices[from], vertices[to]
		a, b := column(from)/width, column(to)/width
		if a == b {
			bands[a].join(u, v, e, r.back[e])
			continue
		}
		bands[a].join(u, stand(stub{a, to, true}, width+1), e, r.back[e])
		bands[b].join(stand(stub{b, from, false}, 0), v, e, r.back[e])
	}
	parts := make([]*part, 0, len(bands))
	for _, band := range slices.Sorted(maps.Keys(bands)) {
		p := bands[band]
		p.columns = slices.DeleteFunc(p.columns, func(c []*vertex) bool { return len(c) == 0 })
		for i, c := range p.columns {
			for _, v := range c {
				v.column = i
			}
		}
		parts = append(parts, p)
	}
	return parts
}

func (p *part) vertex(n *node, column int) *vertex {
	for len(p.columns) <= column {
		p.columns = append(p.columns, nil)
	}
	v := &vertex{n: n, column: column}
	p.columns[column] = append(p.columns[column], v)
	p.all = append(p.all, v)
	return v
}

// join adds an edge, with a bend in each column between its ends.
func (p *part) join(from, to *vertex, e *edge, back bool) {
	for from.column < to.column {
		next := to
		if from.column+1 < to.column {
			next = p.vertex(nil, from.column+1)
		}
		a := &arc{e: e, from: from, to: next, back: back}
		from.after, next.before = append(from.after, a), append(next.before, a)
		from = next
	}
}

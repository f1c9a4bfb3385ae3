package diagram

import "slices"

// A ranking assigns nodes to columns, from left to right along the edges. Edges that would close a cycle run back.
type ranking struct {
	column []int // by node id
	back   map[*edge]bool

	next    [][]int // the edges that run forward, by node id
	visited []int
	visit   int
}

// rank finds the columns of all nodes. kin are the nodes without an edge that are drawn to the right of another one.
func (g *graph) rank(kin map[*node]*node) *ranking {
	r := &ranking{
		column: make([]int, len(g.nodes)), back: map[*edge]bool{},
		next: make([][]int, len(g.nodes)), visited: make([]int, len(g.nodes)),
	}
	entered := make([]bool, len(g.nodes))
	for _, e := range g.edges {
		entered[e.to.id] = true
	}
	// Dead letters of a wait queue are the last edges, because they are the ones that people think of as the way back.
	edges := slices.Clone(g.edges)
	slices.SortStableFunc(edges, func(a, b *edge) int { return a.weight() - b.weight() })
	for _, e := range edges {
		from, to := e.from.id, e.to.id
		if from == to {
			continue
		}
		// A wait queue that only publishers fill stands to the right of the queue that its messages return to.
		beside := e.from.role == wait && e.line == deadLetter && e.to.queue && !entered[from]
		if beside || r.reaches(to, from) {
			r.back[e] = true
			from, to = to, from
		}
		r.next[from] = append(r.next[from], to)
	}
	r.longest()
	for n, parent := range kin {
		r.column[n.id] = r.column[parent.id] + 1
	}
	return r
}

func (e *edge) weight() int {
	if e.line == deadLetter && e.from.role == wait {
		return 3
	}
	return map[line]int{binding: 0, alternate: 1, deadLetter: 2}[e.line]
}

// reaches reports whether the edges so far lead from one node to another.
func (r *ranking) reaches(from, to int) bool {
	r.visit++
	todo := []int{from}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n == to {
			return true
		}
		for _, m := range r.next[n] {
			if r.visited[m] != r.visit {
				r.visited[m] = r.visit
				todo = append(todo, m)
			}
		}
	}
	return false
}

// longest puts each node to the right of all its predecessors, and nodes without a predecessor next to their successors.
func (r *ranking) longest() {
	before := make([]int, len(r.next))
	for _, next := range r.next {
		for _, m := range next {
			before[m]++
		}
	}
	var first, todo []int
	for n, count := range before {
		if count == 0 {
			first = append(first, n)
		}
	}
	for todo = slices.Clone(first); len(todo) > 0; todo = todo[1:] {
		for _, m := range r.next[todo[0]] {
			r.column[m] = max(r.column[m], r.column[todo[0]]+1)
			if before[m]--; before[m] == 0 {
				todo = append(todo, m)
			}
		}
	}
	for _, n := range first {
		for i, m := range r.next[n] {
			if left := r.column[m] - 1; i == 0 || left < r.column[n] {
				r.column[n] = left
			}
		}
	}
}

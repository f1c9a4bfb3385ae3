package diagram

import (
	"cmp"
	"slices"
)

// order sorts the columns so that few arcs cross.
func (p *part) order() {
	p.initial()
	best, fewest := p.places(), p.crossings()
	for sweep := 0; sweep < 24 && fewest > 0; sweep++ {
		if sweep%2 == 0 {
			for _, c := range p.columns[1:] {
				sortColumn(c, func(v *vertex) []*arc { return v.before }, func(a *arc) *vertex { return a.from })
			}
		} else {
			for _, c := range slices.Backward(p.columns[:len(p.columns)-1]) {
				sortColumn(c, func(v *vertex) []*arc { return v.after }, func(a *arc) *vertex { return a.to })
			}
		}
		if n := p.crossings(); n < fewest {
			best, fewest = p.places(), n
		}
	}
	for i, v := range p.all {
		v.place = best[i]
	}
	for _, c := range p.columns {
		slices.SortFunc(c, func(a, b *vertex) int { return a.place - b.place })
	}
}

// initial puts the vertices into the order of a walk along the arcs.
func (p *part) initial() {
	columns := make([][]*vertex, len(p.columns))
	seen := make(map[*vertex]bool, len(p.all))
	var walk func(*vertex)
	walk = func(v *vertex) {
		if seen[v] {
			return
		}
		seen[v] = true
		v.place = len(columns[v.column])
		columns[v.column] = append(columns[v.column], v)
		for _, a := range v.after {
			walk(a.to)
		}
	}
	for _, c := range p.columns {
		for _, v := range c {
			walk(v)
		}
	}
	p.columns = columns
}

// sortColumn sorts by the mean place of the neighbours on one side.
func sortColumn(column []*vertex, arcs func(*vertex) []*arc, end func(*arc) *vertex) {
	mean := make(map[*vertex]float64, len(column))
	for _, v := range column {
		mean[v] = float64(v.place)
		if n := len(arcs(v)); n > 0 {
			sum := 0
			for _, a := range arcs(v) {
				sum += end(a).place
			}
			mean[v] = float64(sum) / float64(n)
		}
	}
	slices.SortStableFunc(column, func(a, b *vertex) int { return cmp.Compare(mean[a], mean[b]) })
	for i, v := range column {
		v.place = i
	}
}

func (p *part) places() []int {
	places := make([]int, len(p.all))
	for i, v := range p.all {
		places[i] = v.place
	}
	return places
}

// crossings counts the pairs of arcs that cross.
func (p *part) crossings() (n int) {
	for i, c := range p.columns[:len(p.columns)-1] {
		sum := make([]int, len(p.columns[i+1])+1) // a Fenwick tree: how many arcs end at each place
		total := 0
		for _, v := range slices.SortedFunc(slices.Values(c), func(a, b *vertex) int { return a.place - b.place }) {
			for _, a := range v.after {
				n += total
				for at := a.to.place + 1; at > 0; at -= at & -at {
					n -= sum[at]
				}
			}
			for _, a := range v.after {
				total++
				for at := a.to.place + 1; at < len(sum); at += at & -at {
					sum[at]++
				}
			}
		}
	}
	return n
}

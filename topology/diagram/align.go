package diagram

import "math"

// align gives each vertex its y, so that arcs are straight where that is possible and vertices do not overlap.
func (p *part) align() {
	for _, c := range p.columns {
		for i, v := range c {
			if i > 0 {
				v.y = c[i-1].y + distance(c[i-1], v)
			}
		}
	}
	const sweeps = 9
	for sweep := range sweeps {
		for i := range p.columns {
			if sweep%2 == 1 {
				i = len(p.columns) - 1 - i
			}
			settle(p.columns[i], sweep%2 == 0, sweep%2 == 1)
		}
	}
	top := math.MaxInt
	for _, v := range p.all {
		top = min(top, v.y-v.up)
	}
	for _, v := range p.all {
		v.y -= top
	}
}

// distance returns the least distance between the middles of two neighbours in a column.
func distance(above, below *vertex) int {
	gap := 16
	if above.n == nil || below.n == nil {
		gap = 8
	}
	return above.down + gap + below.up
}

// settle moves the vertices of a column to the places that their neighbours on the given sides suggest. If these are too
// close to each other, it moves the vertices as little as possible (least squares, by pooling adjacent violators).
func settle(column []*vertex, left, right bool) {
	type block struct {
		sum, weight float64
		vertices    int
	}
	var blocks []block
	offset := 0
	offsets := make([]int, len(column)) // of each vertex if all are packed
	for i, v := range column {
		if i > 0 {
			offset += distance(column[i-1], v)
		}
		offsets[i] = offset
		y, weight := v.wanted(left, right)
		blocks = append(blocks, block{(y - float64(offset)) * weight, weight, 1})
		for n := len(blocks); n > 1 && blocks[n-2].sum/blocks[n-2].weight > blocks[n-1].sum/blocks[n-1].weight; n-- {
			blocks[n-2].sum += blocks[n-1].sum
			blocks[n-2].weight += blocks[n-1].weight
			blocks[n-2].vertices += blocks[n-1].vertices
			blocks = blocks[:n-1]
		}
	}
	i := 0
	for _, b := range blocks {
		for range b.vertices {
			column[i].y = int(math.Floor(b.sum/b.weight)) + offsets[i]
			i++
		}
	}
}

// wanted returns the y at which the arcs of v are straight on average.
func (v *vertex) wanted(left, right bool) (y, weight float64) {
	sum, n := 0, 0
	if left {
		for _, a := range v.before {
			sum += a.from.y + a.leaves() - a.enters()
			n++
		}
	}
	if right {
		for _, a := range v.after {
			sum += a.to.y + a.enters() - a.leaves()
			n++
		}
	}
	weight = 1
	if v.n == nil {
		weight = 4 // bends disturb more than slopes
	}
	if n == 0 {
		return float64(v.y), weight / 100
	}
	return float64(sum) / float64(n), weight
}

// leaves returns the distance of the left end of a from the middle of its vertex.
func (a *arc) leaves() int {
	if a.out == nil {
		return 0
	}
	return a.out.dy
}

func (a *arc) enters() int {
	if a.in == nil {
		return 0
	}
	return a.in.dy
}

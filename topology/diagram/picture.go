package diagram

import (
	"strings"

	"github.com/amqpkit/amqpkit/topology"
)

const (
	widest    = 1600 // of a picture
	usual     = 1000 // the width up to which small parts stand side by side
	margin    = 20
	iconWidth = 20
	partGap   = 36
	boxGap    = 16
	arrowSize = 7
	leastBend = 32
)

// A picture is what SVG writes.
type picture struct {
	width, height int
	boxes         []box
	labels        []label
	routes        []route
	arrows        []arrow
	captions      []label
	legend        []entry
}

// A box is an exchange or a queue.
type box struct {
	rect
	n     *node
	stub  bool
	name  string
	about []string
}

type rect struct{ x, y, w, h int }

// A label stands above the line of its edge.
type label struct {
	rect
	line  line
	lines []string
	title string
}

// A route is the line of an edge. Its pieces are horizontal or curved, except for a loop, which has three straight ones.
type route struct {
	line   line
	title  string
	points []point
	loop   bool
}

type point struct{ x, y int }

type direction int

const (
	toRight direction = iota
	toLeft
	toTop
)

type arrow struct {
	point
	line line
	to   direction
}

func newPicture(t topology.Topology) *picture {
	g := newGraph(t)
	parts, rest := g.parts()
	drawn := make([]*picture, len(parts))
	p := &picture{width: 240}
	across := usual
	for i, part := range parts {
		part.order()
		drawn[i] = part.draw()
		across = max(across, drawn[i].width)
	}
	x, y, row := margin, margin, 0
	for _, d := range drawn {
		if x > margin && (x+d.width > margin+across || d.height > row) {
			x, y, row = margin, y+row+partGap, 0
		}
		p.add(d, x, y)
		x += d.width + 2*partGap
		row = max(row, d.height)
	}
	y += row
	if len(rest) > 0 {
		if len(drawn) > 0 {
			y += partGap
		}
		d := grid(rest, across)
		p.add(d, margin, y)
		y += d.height
	}
	if len(g.nodes) == 0 {
		const text = "This topology is empty."
		p.captions = append(p.captions, label{rect: rect{margin, y, aboutFont.width(text), labelLine}, lines: []string{text}})
		y += labelLine
	}
	p.width += margin
	p.explain(g, y+partGap)
	return p
}

// add copies a drawn part to a place in d.
func (d *picture) add(part *picture, x, y int) {
	for _, b := range part.boxes {
		b.x, b.y = b.x+x, b.y+y
		d.boxes = append(d.boxes, b)
	}
	for _, l := range part.labels {
		l.x, l.y = l.x+x, l.y+y
		d.labels = append(d.labels, l)
	}
	for _, l := range part.captions {
		l.x, l.y = l.x+x, l.y+y
		d.captions = append(d.captions, l)
	}
	for _, r := range part.routes {
		points := make([]point, len(r.points))
		for i, at := range r.points {
			points[i] = point{at.x + x, at.y + y}
		}
		r.points = points
		d.routes = append(d.routes, r)
	}
	for _, a := range part.arrows {
		a.x, a.y = a.x+x, a.y+y
		d.arrows = append(d.arrows, a)
	}
	d.width = max(d.width, x+part.width)
}

// draw returns the picture of p at the first level at which it fits.
func (p *part) draw() (d *picture) {
	for _, l := range levels {
		for _, v := range p.all {
			l.ports(v)
		}
		p.align()
		if d = l.draw(p); d.width <= widest-2*margin {
			break
		}
	}
	return d
}

func (l level) draw(p *part) *picture {
	d := &picture{}
	labels := make([]int, len(p.columns)) // where the labels of a column begin
	boxes := make([]int, len(p.columns))  // where its boxes begin
	ends := make([]int, len(p.columns))   // where they end
	for i, c := range p.columns {
		label, width, bend := 0, 0, leastBend
		for _, v := range c {
			d.height = max(d.height, v.y+v.down)
			for _, a := range v.before {
				dy := a.from.y + a.leaves() - v.y - a.enters()
				bend = max(bend, min(l.bends, leastBend+max(dy, -dy)/5))
			}
			if v.n == nil {
				continue
			}
			w, _ := l.size(v)
			for _, e := range v.loops {
				for _, s := range l.lines(e, l.label) {
					w = max(w, labelFont.width(s)+2*loopDepth)
				}
			}
			width = max(width, w, 96)
			for _, port := range v.left {
				label = max(label, port.labelWidth())
			}
		}
		if i > 0 {
			labels[i] = ends[i-1] + bend
			boxes[i] = labels[i] + label + 2*arrowSize
		}
		ends[i] = boxes[i] + width
	}
	d.width = ends[len(ends)-1]
	for i, c := range p.columns {
		for _, v := range c {
			if v.n == nil {
				continue
			}
			name, about := l.box(v)
			height := v.up * 2
			b := box{rect{boxes[i], v.y - v.up, ends[i] - boxes[i], height}, v.n, v.stub, name, about}
			d.boxes = append(d.boxes, b)
			for _, port := range v.left {
				d.port(port, labels[i], boxes[i], v.y+port.dy)
			}
			for _, port := range v.right {
				if port.back {
					d.arrows = append(d.arrows, arrow{point{ends[i], v.y + port.dy}, port.line, toLeft})
				}
			}
			for _, a := range v.after {
				d.route(a, labels, ends)
			}
			d.loops(l, v, b)
		}
	}
	return d
}

// port draws the line and the label at the left side of a box.
func (d *picture) port(p *port, from, boxSide, y int) {
	to := boxSide
	if !p.back {
		d.arrows = append(d.arrows, arrow{point{to, y}, p.line, toRight})
		to -= arrowSize
	}
	titles := make([]string, len(p.arcs))
	for i, a := range p.arcs {
		titles[i] = a.e.String()
	}
	title := strings.Join(titles, "\n")
	d.routes = append(d.routes, route{line: p.line, title: title, points: []point{{from, y}, {to, y}}})
	if width := p.labelWidth(); width > 0 {
		height := labelLine * len(p.label)
		right := boxSide - arrowSize - 3
		d.labels = append(d.labels, label{rect{right - width, y - height - 2, width, height}, p.line, p.label, title})
	}
}

// route draws an edge from its left box to the port of its right one.
func (d *picture) route(a *arc, labels, ends []int) {
	x := ends[a.from.column]
	if a.back {
		x += arrowSize
	}
	r := route{line: a.e.line, title: a.e.String(), points: []point{{x, a.from.y + a.leaves()}}}
	for {
		at := point{labels[a.to.column], a.to.y + a.enters()}
		r.points = append(r.points, at)
		if a.to.n != nil {
			break
		}
		r.points = append(r.points, point{ends[a.to.column], at.y})
		a = a.to.after[0]
	}
	d.routes = append(d.routes, r)
}

// loops draws the edges from a box to itself.
func (d *picture) loops(l level, v *vertex, b box) {
	y := b.y + b.h
	for i, e := range v.loops {
		y += loopDepth
		in := loopDepth * (len(v.loops) - i)
		left, right := b.x+in, b.x+b.w-in
		d.routes = append(d.routes, route{e.line, e.String(), []point{{right, b.y + b.h}, {right, y}, {left, y}, {left, b.y + b.h + arrowSize}}, true})
		d.arrows = append(d.arrows, arrow{point{left, b.y + b.h}, e.line, toTop})
		lines := l.lines(e, l.label)
		height := labelLine * len(lines)
		width := (&port{label: lines}).labelWidth()
		d.labels = append(d.labels, label{rect{b.x + (b.w-width)/2, y + 1, width, height}, e.line, lines, e.String()})
		y += height
	}
}

// grid draws the nodes without an edge.
func grid(nodes []*node, across int) *picture {
	const caption = "Without a binding"
	d := &picture{captions: []label{{rect: rect{0, 0, aboutFont.width(caption), labelLine}, lines: []string{caption}}}}
	l, width := levels[0], 96
	for _, n := range nodes {
		w, _ := l.size(&vertex{n: n})
		width = max(width, w)
	}
	columns := max(1, (across+boxGap)/(width+boxGap))
	y := labelLine + 8
	for len(nodes) > 0 {
		row := nodes[:min(columns, len(nodes))]
		nodes = nodes[len(row):]
		height := 0
		for _, n := range row {
			_, h := l.size(&vertex{n: n})
			height = max(height, h)
		}
		for i, n := range row {
			name, about := l.box(&vertex{n: n})
			b := box{rect: rect{i * (width + boxGap), y, width, height}, n: n, name: name, about: about}
			d.boxes = append(d.boxes, b)
			d.width = max(d.width, b.x+width)
		}
		y += height + boxGap
	}
	d.height = y - boxGap
	return d
}

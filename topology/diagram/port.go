package diagram

import (
	"cmp"
	"slices"
	"strings"
)

const (
	nameLine  = 16 // height of a line of text
	aboutLine = 14
	labelLine = 13
	inset     = 10 // of text in a box
	pitch     = 16 // between ports on the right
	loopDepth = 12 // of a loop below a box, without its label
)

// A level limits the widths of a part.
type level struct{ name, label, bends int }

// levels are tried in this order, until a part fits into the picture. The last one always fits.
var levels = []level{{260, 200, 130}, {210, 160, 100}, {170, 120, 70}, {110, 80, 44}}

// A port is a place at the side of a box at which edges of one kind end.
type port struct {
	line  line
	back  bool
	label []string
	dy    int // below the middle of the box
	arcs  []*arc
}

func (p *port) height() int {
	if p.labelWidth() == 0 {
		return pitch
	}
	return labelLine*len(p.label) + 5
}

func (p *port) labelWidth() (width int) {
	for _, s := range p.label {
		width = max(width, labelFont.width(s))
	}
	return width
}

// label returns the lines of an edge's label.
func (l level) lines(e *edge, width int) []string {
	fits := func(s string) bool { return labelFont.width(s) <= width }
	var lines []string
	for _, s := range e.label(fits) {
		for { // arguments in several lines
			i := strings.Index(s, ", ")
			for next := i; next >= 0 && fits(s[:next]); {
				i = next
				if next = strings.Index(s[i+2:], ", "); next >= 0 {
					next += i + 2
				}
			}
			if fits(s) || i < 0 || len(lines) == most-1 {
				break
			}
			lines = append(lines, labelFont.short(s[:i+1], width))
			s = s[i+2:]
		}
		lines = append(lines, labelFont.short(s, width))
	}
	return lines
}

// box returns the lines of text of a box.
func (l level) box(v *vertex) (name string, about []string) {
	width := l.name
	if v.n.role != plain {
		width -= iconWidth
	}
	name = nameFont.short(v.n.name, width)
	if !v.stub {
		about = aboutFont.wrap(v.n.about, max(l.name, nameFont.width(name)))
	}
	return name, about
}

// size returns the size that the text of a box needs.
func (l level) size(v *vertex) (width, height int) {
	name, about := l.box(v)
	width = nameFont.width(name)
	if v.n.role != plain {
		width += iconWidth
	}
	for _, s := range about {
		width = max(width, aboutFont.width(s))
	}
	return width + 2*inset, nameLine + aboutLine*len(about) + 14
}

// ports places the ends of the arcs of v, whose order is known, and finds the extent of v.
func (l level) ports(v *vertex) {
	if v.n == nil {
		v.up, v.down = 5, 5
		return
	}
	v.left = collect(v.before, func(a *arc) port { return port{line: a.e.line, back: a.back, label: l.lines(a.e, l.label)} },
		func(a *arc) *vertex { return a.from }, func(a *arc, p *port) { a.in = p })
	v.right = collect(v.after, func(a *arc) port { return port{line: a.e.line, back: a.back} },
		func(a *arc) *vertex { return a.to }, func(a *arc, p *port) { a.out = p })
	_, height := l.size(v)
	total := 0
	for _, p := range v.left {
		total += p.height()
	}
	height = max(height, total+6, pitch*len(v.right)+12)
	height += height % 2
	y := -total / 2
	for _, p := range v.left {
		y += p.height()
		p.dy = y - 4
	}
	if len(v.left) == 1 && v.left[0].height() <= height/2 {
		v.left[0].dy = 0
	}
	for i, p := range v.right {
		p.dy = pitch*i - pitch*(len(v.right)-1)/2
	}
	v.up, v.down = height/2, height/2
	for _, e := range v.loops {
		v.down += loopDepth + labelLine*len(l.lines(e, l.label))
	}
}

// collect groups arcs into ports, in the order of their other ends.
func collect(arcs []*arc, describe func(*arc) port, end func(*arc) *vertex, set func(*arc, *port)) (ports []*port) {
	type key struct {
		line  line
		back  bool
		label string
	}
	known := map[key]*port{}
	for _, a := range arcs {
		d := describe(a)
		k := key{d.line, d.back, strings.Join(d.label, "\n")}
		p := known[k]
		if p == nil {
			p = &d
			known[k] = p
			ports = append(ports, p)
		}
		p.arcs = append(p.arcs, a)
		set(a, p)
	}
	mean := make(map[*port]float64, len(ports))
	for _, p := range ports {
		for _, a := range p.arcs {
			mean[p] += float64(end(a).place) / float64(len(p.arcs))
		}
	}
	slices.SortStableFunc(ports, func(a, b *port) int { return cmp.Compare(mean[a], mean[b]) })
	return ports
}

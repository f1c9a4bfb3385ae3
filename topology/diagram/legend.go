package diagram

import "slices"

// An entry of the legend shows a box or a line, and its meaning.
type entry struct {
	point
	text string
	box  *node // nil for a line
	stub bool
	line line
}

const sample = 34 // width of a sample in the legend

// explain adds a legend of the things that the picture shows.
func (d *picture) explain(g *graph, y int) {
	var shown [2]bool
	var roles [3]bool
	var lines [3]bool
	elsewhere := false
	for _, n := range g.nodes {
		if n.queue {
			roles[n.role] = true
			shown[1] = true
		} else {
			shown[0] = true
		}
		elsewhere = elsewhere || !n.declared
	}
	for _, e := range g.edges {
		lines[e.line] = true
	}
	stub := slices.ContainsFunc(d.boxes, func(b box) bool { return b.stub })
	x := margin
	add := func(is bool, e entry) {
		if !is {
			return
		}
		width := sample + 6 + aboutFont.width(e.text)
		if x > margin && x+width > max(d.width-margin, usual/2) {
			x, y = margin, y+20
		}
		e.point = point{x, y}
		d.legend = append(d.legend, e)
		d.width = max(d.width, x+width+margin)
		x += width + 20
	}
	add(shown[0], entry{text: "exchange", box: &node{declared: true}})
	add(shown[1], entry{text: "queue", box: &node{queue: true, declared: true}})
	add(roles[wait], entry{text: "wait queue: messages leave after its TTL", box: &node{queue: true, declared: true, role: wait}})
	add(roles[parking], entry{text: "parking queue: dead letters stay", box: &node{queue: true, declared: true, role: parking}})
	add(elsewhere, entry{text: "not declared here", box: &node{queue: true}})
	add(stub, entry{text: "drawn in another part", box: &node{queue: true, declared: true}, stub: true})
	add(lines[binding], entry{text: "binding with key", line: binding})
	add(lines[deadLetter], entry{text: "dead letters", line: deadLetter})
	add(lines[alternate], entry{text: "alternate exchange", line: alternate})
	d.height = y + margin
	if len(d.legend) > 0 {
		d.height = y + 16 + margin
	}
}

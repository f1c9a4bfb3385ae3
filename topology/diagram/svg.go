package diagram

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/amqpkit/amqpkit/topology"
)

// SVG draws t as an SVG document without scripts, styles, links or identifiers, so that it may be embedded in any page.
//
// Messages flow from left to right, except where an arrow shows the opposite. Connected objects form a part, and parts
// stand below or next to each other, the largest one first. Objects without a binding and dead letters follow in a grid. The
// picture is at most 1,600 units wide, with names of 13 units, so that a browser on an ordinary screen shows all of it at
// its natural size. Long names are shortened in the middle; tooltips show the full ones. A part with more than
// six columns is continued below: a box with a dotted outline names the object of another part.
func SVG(t topology.Topology) string {
	p := newPicture(t)
	w := &svg{}
	w.f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif">`+"\n",
		p.width, p.height, p.width, p.height)
	summary := fmt.Sprintf("Topology of %s and %s", count(len(t.Exchanges), "exchange", "exchanges"), count(len(t.Queues), "queue", "queues"))
	w.f("<title>%s</title>\n<desc>%s</desc>\n", summary, "Exchanges and queues are boxes. Lines are bindings with their keys. "+
		"Dashed lines are dead letters, dotted lines lead to alternate exchanges.")
	w.f(`<rect width="100%%" height="100%%" fill="#ffffff"/>` + "\n")
	for _, l := range []line{binding, alternate, deadLetter} {
		w.routes(p, l)
	}
	w.f(`<g font-size="%d">`+"\n", labelFont.size)
	for _, l := range p.labels {
		w.label(l, colours[l.line])
	}
	for _, l := range p.captions {
		w.f(`<text x="%d" y="%d" fill="%s">%s</text>`+"\n", l.x, l.y+labelLine-3, muted, l.lines[0])
	}
	w.f("</g>\n")
	for _, b := range p.boxes {
		w.box(b)
	}
	w.legend(p)
	w.f("</svg>\n")
	return w.String()
}

// The colours differ in lightness, and their meanings are also shown by shapes, dashes and icons.
const (
	ink   = "#1b1f24"
	muted = "#57606a"
)

var (
	colours = [...]string{binding: "#475569", deadLetter: "#b42318", alternate: "#6d3fc0"}
	dashes  = [...]string{binding: "", deadLetter: ` stroke-dasharray="6 4"`, alternate: ` stroke-dasharray="1.5 4" stroke-linecap="round"`}
)

// style returns the fill and the outline of a node.
func (n *node) style() (fill, stroke string) {
	switch {
	case !n.declared:
		return "#ffffff", "#6b7280"
	case !n.queue:
		return "#e3ecfb", "#2f5aa8"
	case n.role == wait:
		return "#fff4d1", "#8a6100"
	case n.role == parking:
		return "#fbe4e1", "#9f2f22"
	}
	return "#f1f3f5", "#4b5563"
}

type svg struct{ strings.Builder }

func (w *svg) f(format string, args ...any) { fmt.Fprintf(w, format, args...) }

func (w *svg) title(s string) { w.f("<title>%s</title>", escape(s)) }

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder returns no error
	return b.String()
}

func (w *svg) routes(p *picture, l line) {
	w.f(`<g fill="none" stroke="%s" stroke-width="1.5"%s>`+"\n", colours[l], dashes[l])
	for _, r := range p.routes {
		if r.line == l {
			w.f(`<path d="%s">`, r.path())
			w.title(r.title)
			w.f("</path>\n")
		}
	}
	w.f("</g>\n"+`<path fill="%s" d="`, colours[l])
	for _, a := range p.arrows {
		if a.line == l {
			w.f("%s", a.path())
		}
	}
	w.f(`"/>` + "\n")
}

func (r route) path() string {
	var b strings.Builder
	last := r.points[0]
	fmt.Fprintf(&b, "M%d %d", last.x, last.y)
	for _, at := range r.points[1:] {
		middle := (last.x + at.x) / 2
		switch {
		case r.loop:
			fmt.Fprintf(&b, "L%d %d", at.x, at.y)
		case at.y == last.y:
			fmt.Fprintf(&b, "H%d", at.x)
		default:
			fmt.Fprintf(&b, "C%d %d %d %d %d %d", middle, last.y, middle, at.y, at.x, at.y)
		}
		last = at
	}
	return b.String()
}

func (a arrow) path() string {
	const half = 4
	switch a.to {
	case toLeft:
		return fmt.Sprintf("M%d %dl%d %dv%dz", a.x, a.y, arrowSize+1, -half, 2*half)
	case toTop:
		return fmt.Sprintf("M%d %dl%d %dh%dz", a.x, a.y, -half, arrowSize+1, 2*half)
	}
	return fmt.Sprintf("M%d %dl%d %dv%dz", a.x, a.y, -arrowSize-1, -half, 2*half)
}

// label writes lines of text, which end at the right of the label.
func (w *svg) label(l label, colour string) {
	for i, s := range l.lines {
		w.f(`<text x="%d" y="%d" text-anchor="end" fill="%s">`, l.x+l.w, l.y+labelLine*(i+1)-3, colour)
		if l.title != "" {
			w.title(l.title)
		}
		w.f("%s</text>\n", escape(s))
	}
}

func (w *svg) box(b box) {
	w.f("<g>")
	w.title(b.n.String())
	w.outline(b.rect, b.n, b.stub)
	height := nameLine + aboutLine*len(b.about)
	y := b.y + (b.h-height)/2
	x := b.x + inset
	if b.n.role != plain {
		w.icon(b.n, x, y+1)
		x += iconWidth
	}
	style := ""
	if b.stub {
		style = ` font-style="italic"`
	}
	w.f(`<text x="%d" y="%d" font-size="%d" font-weight="bold" fill="%s"%s>%s</text>`, x, y+nameLine-4, nameFont.size, ink, style, escape(b.name))
	for i, s := range b.about {
		w.f(`<text x="%d" y="%d" font-size="%d" fill="%s">%s</text>`, b.x+inset, y+nameLine+aboutLine*(i+1)-3, aboutFont.size, muted, escape(s))
	}
	w.f("</g>\n")
}

// outline draws an exchange with round corners and a queue with square ones.
func (w *svg) outline(r rect, n *node, stub bool) {
	fill, stroke := n.style()
	radius := 3
	if !n.queue {
		radius = min(r.h/2, 18)
	}
	dash := ""
	switch {
	case stub:
		fill, stroke, dash = "#ffffff", muted, ` stroke-dasharray="1.5 4" stroke-linecap="round"`
	case !n.declared:
		dash = ` stroke-dasharray="5 3"`
	}
	w.f(`<rect x="%d" y="%d" width="%d" height="%d" rx="%d" fill="%s" stroke="%s" stroke-width="1.5"%s/>`, r.x, r.y, r.w, r.h, radius, fill, stroke, dash)
}

// icon draws a clock or a P of 14 by 14 units.
func (w *svg) icon(n *node, x, y int) {
	_, stroke := n.style()
	if n.role == wait {
		w.f(`<g fill="#ffffff" stroke="%s" stroke-width="1.5"><circle cx="%d" cy="%d" r="6"/><path fill="none" d="M%d %dv4h3"/></g>`,
			stroke, x+7, y+7, x+7, y+3)
		return
	}
	w.f(`<rect x="%d" y="%d" width="13" height="13" rx="3" fill="%s"/>`, x, y, stroke)
	w.f(`<path fill="none" stroke="#ffffff" stroke-width="1.8" d="M%d %dv-8h2.5a2.2 2.2 0 0 1 0 4.6h-2.5"/>`, x+4, y+11)
}

func (w *svg) legend(p *picture) {
	w.f(`<g font-size="%d">`+"\n", aboutFont.size)
	for _, e := range p.legend {
		if e.box != nil {
			w.outline(rect{e.x, e.y - 1, sample, 17}, e.box, e.stub)
			if e.box.role != plain {
				w.icon(e.box, e.x+10, e.y+1)
			}
		} else {
			w.f(`<path fill="none" stroke="%s" stroke-width="1.5"%s d="M%d %dh%d"/>`, colours[e.line], dashes[e.line], e.x, e.y+8, sample-arrowSize)
			w.f(`<path fill="%s" d="%s"/>`, colours[e.line], arrow{point: point{e.x + sample, e.y + 8}}.path())
		}
		w.f(`<text x="%d" y="%d" fill="%s">%s</text>`+"\n", e.x+sample+6, e.y+12, muted, escape(e.text))
	}
	w.f("</g>\n")
}

package diagram

import (
	"fmt"
	"strings"

	"github.com/amqpkit/amqpkit/topology"
)

// Mermaid draws t as a Mermaid flowchart, which GitHub and many other programs show in Markdown pages. Mermaid itself
// refuses more than 500 edges unless its configuration allows more.
func Mermaid(t topology.Topology) string {
	g := newGraph(t)
	w := &strings.Builder{}
	fmt.Fprintf(w, "flowchart LR\n  accTitle: Topology of %s and %s\n", count(len(t.Exchanges), "exchange", "exchanges"), count(len(t.Queues), "queue", "queues"))
	if len(g.nodes) == 0 {
		w.WriteString("  empty[\"This topology is empty.\"]\n")
	}
	classes := map[string][2]string{}
	var names []string
	for _, n := range g.nodes {
		left, right := `(["`, `"])`
		if n.queue {
			left, right = `["`, `"]`
		}
		class := n.class()
		if _, ok := classes[class]; !ok {
			fill, stroke := n.style()
			classes[class] = [2]string{fill, stroke}
			names = append(names, class)
		}
		lines := append([]string{n.name}, n.wrapped()...)
		fmt.Fprintf(w, "  n%d%s%s%s:::%s\n", n.id, left, mermaidLines(lines), right, class)
	}
	var styled [3][]string
	for i, e := range g.edges {
		arrow := "-->"
		if e.line != binding {
			arrow = "-.->"
			styled[e.line] = append(styled[e.line], fmt.Sprint(i))
		}
		label := mermaidLines(e.label(labelFits))
		if label != "" {
			arrow += `|"` + label + `"|`
		}
		fmt.Fprintf(w, "  n%d %s n%d\n", e.from.id, arrow, e.to.id)
		if len(e.label(labelFits)) < len(e.texts) && !labelFits(strings.Join(e.texts, ", ")) {
			fmt.Fprintf(w, "  %%%% n%d to n%d: %s\n", e.from.id, e.to.id, mermaidText(strings.Join(e.texts, ", ")))
		}
	}
	for _, class := range names {
		dash := ""
		if strings.HasPrefix(class, "other") {
			dash = ",stroke-dasharray:5 3"
		}
		fmt.Fprintf(w, "  classDef %s fill:%s,stroke:%s,color:%s%s\n", class, classes[class][0], classes[class][1], ink, dash)
	}
	for l, edges := range styled {
		if len(edges) > 0 {
			dash := "6 4"
			if line(l) == alternate {
				dash = "2 4"
			}
			fmt.Fprintf(w, "  linkStyle %s stroke:%s,stroke-dasharray:%s\n", strings.Join(edges, ","), colours[l], dash)
		}
	}
	return w.String()
}

// class names the style of n.
func (n *node) class() string {
	switch {
	case !n.declared:
		return "other"
	case n.role == wait:
		return "wait"
	case n.role == parking:
		return "parking"
	}
	return n.kind()
}

// wrapped returns the attributes of n in lines.
func (n *node) wrapped() []string { return aboutFont.wrap(n.about, levels[0].name) }

func labelFits(s string) bool { return labelFont.width(s) <= levels[0].label }

func mermaidLines(lines []string) string {
	escaped := make([]string, len(lines))
	for i, s := range lines {
		escaped[i] = mermaidText(s)
	}
	return strings.Join(escaped, "<br/>")
}

// mermaidText replaces characters that have a meaning in Mermaid, in HTML, or in Markdown by Mermaid's entities.
func mermaidText(s string) string {
	var b strings.Builder
	for i, r := range s {
		word := i > 0 && i+1 < len(s) && alphanumeric(s[i-1]) && alphanumeric(s[i+1])
		switch {
		case r == ' ', r == ',', r == '/', r == '=', r == '(', r == ')', r < 0x80 && alphanumeric(byte(r)):
			b.WriteRune(r)
		case (r == '.' || r == '-' || r == '_') && word && !strings.HasPrefix(s, "www."):
			b.WriteRune(r)
		case r >= 0x80 && !strings.ContainsRune("ﬂ°¶ß", r): // Mermaid replaces entities by these for a time
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "#%d;", r)
		}
	}
	return b.String()
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

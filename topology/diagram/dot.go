package diagram

import (
	"fmt"
	"strings"

	"github.com/amqpkit/amqpkit/topology"
)

// DOT draws t in the language of Graphviz. Tooltips show the keys that a label leaves out.
func DOT(t topology.Topology) string {
	g := newGraph(t)
	back := g.rank(nil).back
	w := &strings.Builder{}
	w.WriteString(`digraph topology {
  rankdir=LR
  bgcolor=white
  node [fontname="Helvetica,Arial,sans-serif" fontsize=11 shape=box]
  edge [fontname="Helvetica,Arial,sans-serif" fontsize=10 arrowsize=0.7]
`)
	if len(g.nodes) == 0 {
		w.WriteString("  empty [label=\"This topology is empty.\" shape=plain]\n")
	}
	for _, n := range g.nodes {
		style := "filled"
		if !n.queue {
			style += ",rounded"
		}
		if !n.declared {
			style += ",dashed"
		}
		fill, stroke := n.style()
		lines := append([]string{n.name}, n.wrapped()...)
		fmt.Fprintf(w, "  n%d [label=%s tooltip=%s style=%q fillcolor=%q color=%q fontcolor=%q]\n",
			n.id, dotLines(lines), dotLines([]string{n.String()}), style, fill, stroke, ink)
	}
	for _, e := range g.edges {
		from, to, direction := e.from, e.to, ""
		if back[e] { // Graphviz then ranks the two ends in the direction in which they are read
			from, to, direction = to, from, " dir=back"
		}
		style := [...]string{binding: "solid", deadLetter: "dashed", alternate: "dotted"}[e.line]
		fmt.Fprintf(w, "  n%d -> n%d [label=%s tooltip=%s style=%s color=%q fontcolor=%q%s]\n",
			from.id, to.id, dotLines(e.label(labelFits)), dotLines([]string{e.String()}), style, colours[e.line], colours[e.line], direction)
	}
	w.WriteString("}\n")
	return w.String()
}

// dotLines quotes lines of text. Graphviz replaces backslash sequences and HTML entities in quoted text.
func dotLines(lines []string) string {
	escaped := make([]string, len(lines))
	for i, s := range lines {
		escaped[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `&`, `&amp;`).Replace(s)
	}
	return `"` + strings.Join(escaped, `\n`) + `"`
}

package topologyfile

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// expand replaces the environment variables in all strings and keys of n.
func (l Loader) expand(n *tree.Node, f *tree.Faults) {
	for i, item := range n.Items {
		if n.Kind == tree.Map {
			l.expandText(n.Keys[i], f)
		}
		l.expand(item, f)
	}
	if n.Kind == tree.String {
		l.expandText(n, f)
	}
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (l Loader) expandText(n *tree.Node, f *tree.Faults) {
	if !strings.Contains(n.Text, "${") {
		return
	}
	var b strings.Builder
	rest, failed := n.Text, false
	for rest != "" {
		at := strings.Index(rest, "${")
		if at < 0 {
			break
		}
		if at > 0 && rest[at-1] == '$' { // $${ is a literal ${
			b.WriteString(rest[:at-1] + "${")
			rest = rest[at+2:]
			continue
		}
		b.WriteString(rest[:at])
		inner, after, closed := strings.Cut(rest[at+2:], "}")
		name, fallback, hasDefault := strings.Cut(inner, ":-")
		switch {
		case !closed:
			f.Add(n, "has ${ without }", "write ${NAME} or ${NAME:-default}, or $${ for the text ${")
			return
		case !variable.MatchString(name), strings.Contains(fallback, "${"):
			f.Add(n, fmt.Sprintf("${%s} is not the name of an environment variable", validate.Printable(inner)), "write ${NAME} or ${NAME:-default}, or $${ for the text ${")
			return
		}
		value, set := l.lookup(name)
		switch {
		case hasDefault && (!set || value == ""):
			value = fallback
		case !set:
			f.Add(n, fmt.Sprintf("the environment variable %s is not set", name), fmt.Sprintf("set it, or write ${%s:-default}", name))
			failed = true
		}
		b.WriteString(value)
		n.Expanded = true
		rest = after
	}
	if !failed {
		n.Text = b.String() + rest
	}
}

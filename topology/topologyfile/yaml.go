package topologyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// maxAliased is the limit on values that aliases copy.
const maxAliased = 100_000

// parseYAML parses one YAML document. It returns nil after a fault.
func parseYAML(data []byte, f *tree.Faults) *tree.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := dec.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		f.AddAt(1, 1, "", "the file is empty", "write exchanges, queues or bindings")
		return nil
	case err != nil:
		syntax(data, err, f)
		return nil
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		syntax(data, err, f)
		return nil
	default:
		f.AddAt(second.Line, second.Column, "", "begins a second YAML document", "write one document into each file")
		return nil
	}
	c := converter{faults: f, open: map[*yaml.Node]bool{}}
	root := c.node(document.Content[0], 0)
	if c.failed {
		return nil
	}
	return root
}

var (
	lineOf        = regexp.MustCompile(`^(yaml: )?(line [0-9]+: )?`)
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// syntax reports an error of the library. Its line is the one at which the surrounding mapping or list begins, and only
// if that is not the first one. The line of the fault is the last one that the library has read.
func syntax(data []byte, err error, f *tree.Faults) {
	text := err.Error()
	text = text[len(lineOf.FindString(text)):]
	read := data[:read(data)]
	line, start := 1+bytes.Count(read, []byte("\n")), 1+bytes.LastIndexByte(read, '\n')
	current, _, _ := strings.Cut(string(data[start:]), "\n")
	rest := strings.TrimLeft(current, " \t")
	column := len(current) - len(rest)
	fix := "check the indentation, the quotes and the brackets of this line and the ones before"
	if strings.Contains(current[:column], "\t") {
		fix = "indent with spaces instead of tabs"
	}
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		fix = "define it before with &" + m[1] + ", or write the value in quotes"
		if at := strings.Index(current, "*"+m[1]); at >= 0 {
			column = utf8.RuneCountInString(current[:at])
		}
	}
	f.AddAt(line, column+1, "", "is not YAML: "+validate.Printable(text), fix)
}

// read returns how many bytes the library reads until it returns an error, without the ones that it reads ahead.
func read(data []byte) int {
	const ahead = 4 // characters
	r := oneByte{bytes.NewReader(data)}
	dec := yaml.NewDecoder(r)
	for {
		var n yaml.Node
		if err := dec.Decode(&n); err != nil {
			break
		}
	}
	if r.Len() == 0 {
		return len(bytes.TrimRight(data, " \t\r\n"))
	}
	return max(0, len(data)-r.Len()-ahead)
}

// oneByte returns single bytes, so that the library does not fill its buffer.
type oneByte struct{ *bytes.Reader }

func (r oneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

// A converter copies the nodes of the YAML library, with aliases and merge keys resolved.
type converter struct {
	faults  *tree.Faults
	open    map[*yaml.Node]bool // aliases around the current node
	aliased int                 // nodes within aliases
	failed  bool                // a fault after which the result is unusable
}

func (c *converter) fault(y *yaml.Node, problem, fix string) {
	if !c.failed {
		c.faults.AddAt(y.Line, y.Column, "", problem, fix)
	}
	c.failed = true
}

// node never returns nil.
func (c *converter) node(y *yaml.Node, depth int) *tree.Node {
	n := &tree.Node{Kind: tree.Null, Line: y.Line, Column: y.Column}
	if len(c.open) > 0 {
		c.aliased++
	}
	switch {
	case c.failed:
		return n
	case depth == tree.MaxDepth && (y.Kind == yaml.SequenceNode || y.Kind == yaml.MappingNode):
		c.fault(y, fmt.Sprintf("is nested deeper than %d levels", tree.MaxDepth), "flatten it")
		return n
	case c.aliased > maxAliased:
		c.fault(y, fmt.Sprintf("the aliases of the file stand for more than %d values", maxAliased), "write the values out, or use fewer aliases within aliases")
		return n
	}
	switch y.Kind {
	case yaml.AliasNode:
		if c.open[y.Alias] {
			c.fault(y, "the alias *"+validate.Printable(y.Value)+" is within the value that it stands for", "remove it")
			return n
		}
		c.open[y.Alias] = true
		n = c.node(y.Alias, depth)
		delete(c.open, y.Alias)
	case yaml.SequenceNode:
		n.Kind = tree.List
		c.tag(n, y, "!!seq")
		for _, item := range y.Content {
			n.Add(nil, c.node(item, depth+1))
		}
	case yaml.MappingNode:
		n.Kind = tree.Map
		c.tag(n, y, "!!map")
		c.mapping(n, y, depth)
	case yaml.ScalarNode:
		c.scalar(n, y)
	}
	return n
}

// tag refuses a type that the file gives to a value explicitly.
func (c *converter) tag(n *tree.Node, y *yaml.Node, allowed string) {
	if y.Style&yaml.TaggedStyle != 0 && y.ShortTag() != allowed {
		c.fault(y, "has the tag "+validate.Printable(y.ShortTag()), "remove it")
		n.Kind = tree.Null
	}
}

func (c *converter) scalar(n *tree.Node, y *yaml.Node) {
	n.Text = y.Value
	if y.Style&yaml.TaggedStyle != 0 {
		n.Kind = tree.String
		c.tag(n, y, "!!str")
		return
	}
	switch y.ShortTag() {
	case "!!null":
		n.Kind = tree.Null
	case "!!bool":
		n.Kind, n.Text = tree.Bool, strings.ToLower(y.Value)
	case "!!int", "!!float":
		n.Kind = tree.Number
	case "!!str", "!!merge":
		n.Kind = tree.String
	default:
		n.Kind = tree.Date
	}
}

// mapping adds the keys of y, and then the keys of merged mappings that y does not have.
func (c *converter) mapping(n *tree.Node, y *yaml.Node, depth int) {
	var merged []*yaml.Node
	own := map[string]bool{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		if key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		k := c.node(key, depth+1)
		if k.Kind == tree.Map || k.Kind == tree.List {
			c.fault(key, "a key is "+string(k.Kind), "write a string")
			return
		}
		k.Kind, k.Text = tree.String, keyText(key)
		own[k.Text] = true
		n.Add(k, c.node(value, depth+1))
	}
	for _, value := range merged {
		from := c.node(value, depth)
		sources := []*tree.Node{from}
		if from.Kind == tree.List {
			sources = from.Items
		}
		for _, source := range sources {
			if source.Kind != tree.Map {
				c.fault(value, "merges "+string(source.Kind), "merge the alias of a mapping: <<: *name")
				return
			}
			for i, k := range source.Keys {
				if !own[k.Text] {
					own[k.Text] = true
					n.Add(k, source.Items[i])
				}
			}
		}
	}
}

// keyText returns a key as it is written: a queue may be named 2026 or on.
func keyText(y *yaml.Node) string {
	for y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	return y.Value
}

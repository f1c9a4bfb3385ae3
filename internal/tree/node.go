package tree

import (
	"regexp"
	"strconv"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// MaxDepth is the limit on mappings and lists within each other. Arguments begin at depth 3.
const MaxDepth = 4 + validate.MaxDepth

// A Kind is the type of a Node in the file. Its text is for error messages.
type Kind string

// The kinds of nodes.
const (
	Null   Kind = "null"
	Bool   Kind = "a boolean"
	Number Kind = "a number"
	String Kind = "a string"
	List   Kind = "a list"
	Map    Kind = "a mapping"
	Date   Kind = "a date"
)

// A Node is a value of a file.
type Node struct {
	Kind         Kind
	Line, Column int
	Text         string  // of a scalar, as in the file; the value of a string
	Expanded     bool    // Text contains the value of an environment variable
	Keys         []*Node // of a mapping, one for each of Items
	Items        []*Node // of a mapping or list

	parent *Node
	index  int // in parent.Items
}

// Add appends an item to a list, or with a key to a mapping.
func (n *Node) Add(key, item *Node) {
	item.parent, item.index = n, len(n.Items)
	if key != nil {
		key.parent, key.index = n, len(n.Items)
		n.Keys = append(n.Keys, key)
	}
	n.Items = append(n.Items, item)
}

// Get returns the value of a key, or nil.
func (n *Node) Get(key string) *Node {
	for i, k := range n.Keys {
		if k.Text == key {
			return n.Items[i]
		}
	}
	return nil
}

// Key returns the node of a value's key, or nil for the item of a list.
func (n *Node) Key() *Node {
	if n.parent == nil || n.parent.Kind != Map {
		return nil
	}
	return n.parent.Keys[n.index]
}

var word = regexp.MustCompile(`^[\pL\pN_-]+$`)

// Path returns the place of n within the file: `queues["billing.failed"].arguments.x-expires`. The path of the whole file
// is empty.
func (n *Node) Path() string {
	switch {
	case n.parent == nil:
		return ""
	case n.parent.Kind == List:
		return n.parent.Path() + "[" + strconv.Itoa(n.index) + "]"
	}
	at, key := n.parent.Path(), n.parent.Keys[n.index].Text
	switch {
	case !word.MatchString(key):
		return at + "[" + validate.Quote(key) + "]"
	case at == "":
		return key
	}
	return at + "." + key
}

package topologyfile

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/topology"
)

// An origin is the document of a merged object, and its index there.
type origin struct {
	*document
	index int
}

// merged is a topology of several documents.
type merged struct {
	topology.Topology
	origins map[string][]origin // by list, one for each object
}

// merge merges the documents and adds places to the faults that the result has.
func merge(documents []*document) (topology.Topology, error) {
	topologies := make([]topology.Topology, len(documents))
	for i, d := range documents {
		topologies[i] = d.topology
	}
	m := merged{Topology: topology.Merge(topologies...)}
	m.origins = map[string][]origin{
		"Exchanges": origins(m.Exchanges, documents, func(d *document) []topology.Exchange { return d.topology.Exchanges },
			func(x *topology.Exchange) { x.AllowUnknownArguments = false }),
		"Queues": origins(m.Queues, documents, func(d *document) []topology.Queue { return d.topology.Queues },
			func(q *topology.Queue) { q.AllowUnknownArguments = false }),
		"Bindings": origins(m.Bindings, documents, func(d *document) []topology.Binding { return d.topology.Bindings },
			func(b *topology.Binding) { b.AllowUnknownArguments = false }),
	}
	err := m.Validate()
	if err == nil {
		return m.Topology, nil
	}
	for _, cause := range causes(err) {
		if f, ok := errors.AsType[*amqperr.FieldError](cause); ok {
			m.place(f)
		}
	}
	return topology.Topology{}, faultsOf(documents)
}

// origins finds the merged objects among the ones of the documents. [topology.Merge] keeps the order and the first of equal
// objects, and may set AllowUnknownArguments, which plain removes.
func origins[T any](all []T, documents []*document, list func(*document) []T, plain func(*T)) []origin {
	found := make([]origin, 0, len(all))
	for _, d := range documents {
		for i, object := range list(d) {
			if len(found) == len(all) {
				return found
			}
			next := all[len(found)]
			plain(&next)
			plain(&object)
			if reflect.DeepEqual(next, object) {
				found = append(found, origin{d, i})
			}
		}
	}
	return found
}

func causes(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

var objectField = regexp.MustCompile(`^(Exchanges|Queues|Bindings)\[(\d+)\]`)

// place adds f to the faults of its file, with its place and in the words of the file.
func (m *merged) place(f *amqperr.FieldError) {
	list, o, rest := m.object(f.Field)
	at := fmt.Sprintf("%s[%d]", list, o.index)
	if quoted, err := strconv.QuotedPrefix(strings.TrimPrefix(rest, " ")); err == nil { // the name of the object
		_, rest, _ = strings.Cut(rest[len(quoted):], ".") // a long name is followed by its length
		rest = "." + rest
	}
	n, missing := o.find(at, rest)
	field := n.Path()
	if missing != "" {
		field = strings.TrimPrefix(field+"."+missing, ".")
	}
	w := o.words()
	problem := w.translate(f.Problem)
	if first, difference, ok := validate.CutAlsoNamed(f.Problem); ok {
		problem = fmt.Sprintf("is also declared at %s, but %s", m.where(first), difference)
	}
	o.faults.AddAt(n.Line, n.Column, field, problem, w.translate(f.Fix))
}

// object returns the object that a field of the merged topology belongs to.
func (m *merged) object(field string) (list string, o origin, rest string) {
	match := objectField.FindStringSubmatch(field)
	i, _ := strconv.Atoi(match[2])
	return match[1], m.origins[match[1]][i], field[len(match[0]):]
}

// where returns the place of the object at "Queues[0]".
func (m *merged) where(field string) string {
	list, o, _ := m.object(field)
	n, _ := o.find(fmt.Sprintf("%s[%d]", list, o.index), ".Name")
	if o.faults.File == "" {
		return fmt.Sprintf("line %d, column %d", n.Line, n.Column)
	}
	return fmt.Sprintf("%s:%d:%d", o.faults.File, n.Line, n.Column)
}

// find returns the value of a field of an object, or the nearest value around it and the missing part of the path in
// the words of the file.
func (d *document) find(at, field string) (n *tree.Node, missing string) {
	path := field
	for {
		if n = d.places[at+path]; n != nil {
			break
		}
		i := strings.LastIndexAny(path, ".[")
		if i <= 0 {
			path, n = "", d.places[at]
			break
		}
		path = path[:i]
	}
	if key := n.Key(); key != nil && path == "" {
		place := *n
		place.Line, place.Column = key.Line, key.Column
		n = &place
	}
	return n, d.words().field(strings.TrimPrefix(field[len(path):], "."))
}

func (d *document) words() words {
	if d.json {
		return definitionsWords
	}
	return formWords
}

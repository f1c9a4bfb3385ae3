package tree

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/amqpkit/amqpkit/amqperr"
)

// Faults collects the faults of a file.
type Faults struct {
	Package string // that begins the error texts
	File    string

	list []*amqperr.FileError
}

// Add reports a fault of a value or of a key.
func (f *Faults) Add(n *Node, problem, fix string) {
	f.AddAt(n.Line, n.Column, n.Path(), problem, fix)
}

// AddAt reports a fault at a place of the file.
func (f *Faults) AddAt(line, column int, field, problem, fix string) {
	f.list = append(f.list, &amqperr.FileError{
		FieldError: amqperr.FieldError{Package: f.Package, Field: field, Problem: problem, Fix: fix},
		File:       f.File, Line: line, Column: column,
	})
}

// Some reports whether there are faults.
func (f *Faults) Some() bool { return len(f.list) > 0 }

// Err returns the faults joined, in the order of the file, or nil.
func (f *Faults) Err() error {
	slices.SortStableFunc(f.list, func(a, b *amqperr.FileError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(f.list))
	for i, e := range f.list {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// Duplicates reports keys that a mapping has twice, and removes all but the first.
func (f *Faults) Duplicates(n *Node) {
	seen := make(map[string]*Node, len(n.Keys))
	keys, items := n.Keys, n.Items
	n.Keys, n.Items = nil, nil
	for i, item := range items {
		var key *Node
		if n.Kind == Map {
			key = keys[i]
			if first := seen[key.Text]; first != nil {
				f.AddAt(key.Line, key.Column, first.Path(), fmt.Sprintf("is given twice, first in line %d", first.Line), "keep one of them")
				continue
			}
			seen[key.Text] = key
		}
		n.Add(key, item)
		f.Duplicates(item)
	}
}

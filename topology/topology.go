package topology

import "slices"

// A Topology is a set of exchanges, queues and bindings. The zero value is empty and valid. Its methods do not change it
// and may be called from any goroutine.
type Topology struct {
	// Exchanges are declared first.
	Exchanges []Exchange

	// Queues are declared after the exchanges.
	Queues []Queue

	// Bindings are made when both of their ends exist. They may name exchanges and queues of other topologies.
	Bindings []Binding
}

// Queues returns a Topology of durable quorum queues with these names.
func Queues(names ...string) Topology {
	t := Topology{Queues: make([]Queue, len(names))}
	for i, name := range names {
		t.Queues[i] = Queue{Name: name}
	}
	return t
}

// Merge returns the objects of all ts in their order, equal ones once. Objects of the same name that differ are all kept:
// [Topology.Validate], and so Declare, reports them with an error that names the object, the attribute and both places in
// the merged topology.
func Merge(ts ...Topology) Topology {
	var exchanges union[Exchange]
	var queues union[Queue]
	var bindings union[Binding]
	for _, t := range ts {
		for _, x := range t.Exchanges {
			exchanges.add(x.Name, x, func(y Exchange) bool { return difference(x.attributes(), y.attributes()) == "" })
		}
		for _, q := range t.Queues {
			queues.add(q.Name, q, func(r Queue) bool { return difference(q.attributes(), r.attributes()) == "" })
		}
		for _, b := range t.Bindings {
			bindings.add(b.label(), b, func(c Binding) bool { return difference(b.Arguments, c.Arguments) == "" })
		}
	}
	return Topology{Exchanges: exchanges.all, Queues: queues.all, Bindings: bindings.all}
}

// A union collects objects, equal ones once.
type union[T any] struct {
	all    []T
	byName map[string][]T
}

func (u *union[T]) add(name string, object T, equal func(T) bool) {
	if slices.ContainsFunc(u.byName[name], equal) {
		return
	}
	if u.byName == nil {
		u.byName = map[string][]T{}
	}
	u.byName[name] = append(u.byName[name], object)
	u.all = append(u.all, object)
}

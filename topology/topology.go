package topology

import amqp "github.com/rabbitmq/amqp091-go"

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

// Merge returns the objects of all ts in their order, equal ones once. AllowUnknownArguments is set in an object if one
// of its equals has it. Objects of the same name that differ are all kept: [Topology.Validate], and so Declare, reports
// them with an error that names the object, the attribute and both places in the merged topology.
func Merge(ts ...Topology) Topology {
	exchanges := union[Exchange]{attributes: Exchange.attributes, allowed: func(x *Exchange) *bool { return &x.AllowUnknownArguments }}
	queues := union[Queue]{attributes: Queue.attributes, allowed: func(q *Queue) *bool { return &q.AllowUnknownArguments }}
	bindings := union[Binding]{
		attributes: func(b Binding) amqp.Table { return b.Arguments },
		allowed:    func(b *Binding) *bool { return &b.AllowUnknownArguments },
	}
	for _, t := range ts {
		for _, x := range t.Exchanges {
			exchanges.add(x.Name, x)
		}
		for _, q := range t.Queues {
			queues.add(q.Name, q)
		}
		for _, b := range t.Bindings {
			bindings.add(b.key(), b)
		}
	}
	return Topology{Exchanges: exchanges.all, Queues: queues.all, Bindings: bindings.all}
}

// A union collects objects, equal ones once.
type union[T any] struct {
	attributes func(T) amqp.Table
	allowed    func(*T) *bool // returns the AllowUnknownArguments of an object

	all    []T
	byName map[string][]int // indexes of all
}

func (u *union[T]) add(name string, object T) {
	for _, i := range u.byName[name] {
		if len(differing(u.attributes(object), u.attributes(u.all[i]))) == 0 {
			*u.allowed(&u.all[i]) = *u.allowed(&u.all[i]) || *u.allowed(&object)
			return
		}
	}
	if u.byName == nil {
		u.byName = map[string][]int{}
	}
	u.byName[name] = append(u.byName[name], len(u.all))
	u.all = append(u.all, object)
}

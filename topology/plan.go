package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Plan is the difference between a wanted topology and a virtual host. [Diff] returns it.
type Plan struct {
	// Changes has one entry for every wanted object in the order of the topology: exchanges, queues, bindings. Surplus
	// bindings and then unmanaged objects follow, sorted.
	Changes []Change

	// Unseen lists the parts of the virtual host that could not be seen, so that the plan may be wrong about them.
	Unseen []Unseen
}

// An Action is the part of a plan that concerns one object.
type Action string

// The actions of a plan.
const (
	Create    Action = "create"    // the object is missing
	Keep      Action = "keep"      // declaring it again changes nothing, and RabbitMQ accepts it
	Recreate  Action = "recreate"  // RabbitMQ refuses to declare it: it has other attributes, which cannot be changed
	Surplus   Action = "surplus"   // an unwanted binding to a managed queue, or between two managed exchanges
	Unmanaged Action = "unmanaged" // an exchange or queue that the topology does not declare
	Unknown   Action = "unknown"   // the object could not be seen
)

// A Change is the entry of a plan for one object.
type Change struct {
	Action Action
	Object string // `queue "orders"`, `exchange "in"` or `binding of queue "orders" to exchange "in" with key "paid"`

	// Exactly one of them is set: the wanted object, or the existing one if it is Surplus or Unmanaged.
	Exchange *Exchange
	Queue    *Queue
	Binding  *Binding

	// Differences are all attributes for which an object must be recreated, sorted.
	Differences []Difference

	// Notes are sentences about attributes that do not have the declared value although RabbitMQ accepts the declaration:
	// a policy overrides or limits it, or the object was created without it and RabbitMQ does not compare it.
	Notes []string

	// Usage is the state of an existing queue. Nil means that it was not seen.
	Usage *Usage
}

// A Difference is an attribute of an existing object with another value than in the declaration. A nil value means that the
// attribute is not set. Values have the types of [amqp.Table], integers are int64.
type Difference struct {
	Attribute string // "x-message-ttl", "durable", "type", as in a [ConflictError]
	Has       any    // the broker's value
	Want      any    // the declared value
}

// String returns "x-message-ttl: 60000 -> 3600000".
func (d Difference) String() string {
	return fmt.Sprintf("%s: %s -> %s", validate.Printable(d.Attribute), printed(d.Has), printed(d.Want))
}

func printed(v any) string {
	if v == nil {
		return "none"
	}
	return attribute(amqp.Table{"": v}, "")
}

// Drift reports whether the virtual host differs from the topology: an object is missing or must be recreated, or a binding is
// surplus. It ignores unmanaged objects and objects that could not be seen.
func (p Plan) Drift() bool {
	return p.Count(Create)+p.Count(Recreate)+p.Count(Surplus) > 0
}

// Count returns the number of changes with an action.
func (p Plan) Count(a Action) (n int) {
	for _, c := range p.Changes {
		if c.Action == a {
			n++
		}
	}
	return n
}

// String returns the plan for people, one line for every change and an indented one for every difference and note, and a
// summary at the end:
//
//   - exchange "orders" (topic)
//     ~ queue "billing" (quorum, 1203 messages, 2 consumers): recreate
//     x-message-ttl: 60000 -> 3600000
//   - binding of queue "billing" to exchange "legacy" with key "#": surplus
//     . queue "scratch" (classic, 0 messages, 0 consumers): unmanaged
//     1 to create, 1 to recreate, 1 surplus, 7 unchanged, 1 unmanaged
//
// An object that is kept is shown only if there is a note about it. Bindings that could not be seen are only counted.
func (p Plan) String() string {
	var b strings.Builder
	for _, c := range p.Changes {
		if c.Action == Keep && len(c.Notes) == 0 || c.Action == Unknown && c.Binding != nil {
			continue
		}
		fmt.Fprintln(&b, c)
	}
	for _, u := range p.Unseen {
		fmt.Fprintf(&b, "not seen: %s\n", u)
	}
	b.WriteString(p.summary())
	return b.String()
}

// summary returns the last line of String.
func (p Plan) summary() string {
	var parts []string
	for _, part := range []struct {
		action Action
		text   string
	}{
		{Create, "to create"},
		{Recreate, "to recreate"},
		{Surplus, "surplus"},
		{Unknown, "unknown"},
		{Keep, "unchanged"},
		{Unmanaged, "unmanaged"},
	} {
		if n := p.Count(part.action); n > 0 {
			parts = append(parts, fmt.Sprint(n, " ", part.text))
		}
	}
	if len(parts) == 0 {
		return "nothing to do"
	}
	return strings.Join(parts, ", ")
}

// String returns the lines of [Plan.String] about c, without a line break at the end.
func (c Change) String() string {
	sign := map[Action]string{Create: "+", Keep: "=", Recreate: "~", Surplus: "-", Unmanaged: ".", Unknown: "?"}[c.Action]
	line := sign + " " + c.Object
	if about := c.about(); len(about) > 0 {
		line += " (" + strings.Join(about, ", ") + ")"
	}
	if c.Action != Create && c.Action != Keep {
		line += ": " + string(c.Action)
	}
	lines := []string{line}
	for _, d := range c.Differences {
		lines = append(lines, "    "+d.String())
	}
	for _, n := range c.Notes {
		lines = append(lines, "    note: "+n)
	}
	return strings.Join(lines, "\n")
}

// about returns the properties of c's object that its line shows.
func (c Change) about() (about []string) {
	add := func(set bool, word string) {
		if set && word != "" {
			about = append(about, word)
		}
	}
	switch {
	case c.Exchange != nil:
		x := c.Exchange
		add(true, string(x.Type))
		add(x.Transient, "transient")
		add(x.AutoDelete, "auto-delete")
		add(x.Internal, "internal")
	case c.Queue != nil:
		q := c.Queue
		add(true, string(q.kind()))
		add(q.Transient, "transient")
		add(q.Exclusive, "exclusive")
		add(q.AutoDelete, "auto-delete")
		if u := c.Usage; u != nil {
			about = append(about, counted(u.Messages, "message"), counted(u.Consumers, "consumer"))
			add(!slices.Contains([]string{"running", "idle", "flow"}, u.State), u.State)
		}
	case c.Binding != nil && len(c.Binding.Arguments) > 0:
		about = append(about, printedTable(c.Binding.Arguments))
	}
	return about
}

func counted(n int64, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// printedTable returns arguments for people, sorted.
func printedTable(args amqp.Table) string {
	all := make([]string, 0, len(args))
	for _, key := range slices.Sorted(maps.Keys(args)) {
		all = append(all, validate.Printable(key)+"="+printed(args[key]))
	}
	return strings.Join(all, ", ")
}

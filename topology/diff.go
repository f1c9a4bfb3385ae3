package topology

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// Diff compares wanted with a virtual host and returns what declaring it would do. It asks no broker. wanted must be valid
// (see [Topology.Validate]).
//
// Equality follows RabbitMQ: an object is Recreate if and only if RabbitMQ would refuse to declare it with a
// [ConflictError]. RabbitMQ compares the properties (type, durable, auto_delete, exclusive, internal), the arguments of a queue that
// its type and the broker's version know, and alternate-exchange. Integers are equal whatever their size, and so are "24h"
// and "1D" as x-max-age since RabbitMQ 4.3.6. A difference in any other argument has no effect: it becomes a note, as does
// an argument that a policy or operator policy overrides or limits. Policies need no other comparison, because a
// declaration does not change them.
//
// Diff cannot see two settings of a broker: quorum_relaxed_checks_on_redeclaration, with which RabbitMQ accepts the
// declaration of an existing quorum queue as classic, and the connection that an exclusive queue belongs to. It keeps an
// exclusive queue that is wanted, with a note.
//
// A binding is Surplus if its destination is a wanted queue, or if both ends are wanted exchanges. Bindings of other
// objects are not part of the plan, nor are exclusive queues that are not wanted, and objects with names that begin with "amq.".
func Diff(wanted Topology, existing Existing) Plan {
	d := newDiff(existing)
	p := Plan{Unseen: slices.Concat(existing.Unseen, d.policies.unread)}
	managed := make(map[object]Action, len(wanted.Exchanges)+len(wanted.Queues))
	add := func(o object, c Change) {
		managed[o] = c.Action
		p.Changes = append(p.Changes, c)
	}
	for _, x := range wanted.Exchanges {
		o := object{"exchange", x.Name}
		add(o, d.exchange(o, x))
	}
	for _, q := range wanted.Queues {
		o := object{"queue", q.Name}
		add(o, d.queue(o, q))
	}
	for _, b := range wanted.Bindings {
		p.Changes = append(p.Changes, d.binding(b, managed))
	}
	p.Changes = slices.Concat(p.Changes, d.surplus(wanted.Bindings, managed), d.unmanaged(managed))
	return p
}

// diff is an Existing with indexes.
type diff struct {
	Existing
	broker    broker
	policies  policies
	unseen    map[string]bool // Unseen.What
	exchanges map[string]Exchange
	queues    map[string]Queue
	bindings  map[string]bool // keys
}

func newDiff(existing Existing) diff {
	d := diff{
		Existing:  existing,
		broker:    versionOf(existing.Version),
		policies:  newPolicies(existing.Policies),
		unseen:    map[string]bool{},
		exchanges: make(map[string]Exchange, len(existing.Exchanges)),
		queues:    make(map[string]Queue, len(existing.Queues)),
		bindings:  make(map[string]bool, len(existing.Bindings)),
	}
	for _, u := range existing.Unseen {
		d.unseen[u.What] = true
	}
	for _, x := range existing.Exchanges {
		d.exchanges[x.Name] = x
	}
	for _, q := range existing.Queues {
		d.queues[q.Name] = q
	}
	for _, b := range existing.Bindings {
		d.bindings[b.key()] = true
	}
	return d
}

func (d diff) exchange(o object, x Exchange) Change {
	c := Change{Object: o.String(), Exchange: &x}
	has, exists := d.exchanges[x.Name]
	c.Action = d.action(o, exists)
	if exists {
		d.compare(&c, has.attributes(), x.attributes(), func(key string) bool { return key == "alternate-exchange" })
	}
	return c
}

func (d diff) queue(o object, q Queue) Change {
	c := Change{Object: o.String(), Queue: &q}
	has, exists := d.queues[q.Name]
	c.Action = d.action(o, exists)
	if exists {
		c.Usage = d.usage(q.Name)
		d.compare(&c, has.attributes(), q.attributes(), func(key string) bool { return d.broker.compares(key, has.kind(), q.kind()) })
	}
	if c.Action == Keep && q.Exclusive {
		c.Notes = append(c.Notes, "it belongs to the connection that declared it; RabbitMQ refuses it to others until that connection closes")
	}
	if c.Action != Unknown {
		c.Notes = append(c.Notes, d.policies.notes(q)...)
	}
	return c
}

// action returns the action for a wanted object whose attributes are right.
func (d diff) action(o object, exists bool) Action {
	switch {
	case exists:
		return Keep
	case d.unseen[unseenObject(o)]:
		return Unknown
	}
	return Create
}

// compare adds the attributes of an existing object that differ to c. compared reports whether RabbitMQ compares an argument.
func (d diff) compare(c *Change, has, want amqp.Table, compared func(argument string) bool) {
	if d.unseen[unseenAttributes] {
		return
	}
	for _, key := range differing(has, want) {
		x := Difference{Attribute: key}
		if v, ok := has[key]; ok {
			x.Has = normal(v)
		}
		if v, ok := want[key]; ok {
			x.Want = normal(v)
		}
		switch {
		case key == "x-max-age" && sameAge(x.Has, x.Want) && d.broker.atLeast(4, 3, 6): // earlier ones compare the text
		case slices.Contains(properties, key) || compared(key):
			c.Action = Recreate
			c.Differences = append(c.Differences, x)
		default:
			c.Notes = append(c.Notes, fmt.Sprintf("%s is %s on the broker and %s in the declaration; RabbitMQ does not compare it and does not change it",
				validate.Printable(key), printed(x.Has), printed(x.Want)))
		}
	}
}

func (d diff) usage(queue string) *Usage {
	if u, seen := d.Usage[queue]; seen {
		return &u
	}
	return nil
}

func (d diff) binding(b Binding, managed map[object]Action) Change {
	c := Change{Action: Create, Object: b.label(), Binding: &b}
	isNew := func(end object) bool { return managed[end] == Create }
	switch {
	case d.bindings[b.key()]:
		c.Action = Keep
	case d.unseen[unseenBindings] && !slices.ContainsFunc(b.ends(), isNew):
		c.Action = Unknown
	}
	return c
}

// surplus returns the unwanted bindings of managed objects, sorted.
func (d diff) surplus(wanted []Binding, managed map[object]Action) (changes []Change) {
	want := make(map[string]bool, len(wanted))
	for _, b := range wanted {
		want[b.key()] = true
	}
	ours := func(o object) bool { return managed[o] != "" }
	for _, b := range d.Bindings {
		from, to := object{"exchange", b.Source}, object{"exchange", b.Exchange}
		if (ours(object{"queue", b.Queue}) && b.Source != "" || ours(from) && ours(to)) && !want[b.key()] {
			changes = append(changes, Change{Action: Surplus, Object: b.label(), Binding: &b})
		}
	}
	slices.SortFunc(changes, func(x, y Change) int { return cmp.Compare(x.Binding.key(), y.Binding.key()) })
	return changes
}

// unmanaged returns the existing objects that the topology does not declare, sorted.
func (d diff) unmanaged(managed map[object]Action) (changes []Change) {
	add := func(o object, c Change) {
		if managed[o] == "" && o.name != "" && !strings.HasPrefix(o.name, "amq.") {
			c.Action, c.Object = Unmanaged, o.String()
			changes = append(changes, c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.exchanges)) {
		add(object{"exchange", name}, Change{Exchange: new(d.exchanges[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(d.queues)) {
		if q := d.queues[name]; !q.Exclusive {
			add(object{"queue", name}, Change{Queue: &q, Usage: d.usage(name)})
		}
	}
	return changes
}

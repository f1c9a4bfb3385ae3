package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// checkCycles finds cycles in which RabbitMQ drops messages. RabbitMQ drops a message that is dead-lettered back to a queue
// that it left before, unless a consumer rejected it in one of the queues in between. It notifies neither the publisher
// nor a consumer (https://www.rabbitmq.com/docs/dlx#cycles). Expiry, overflow and the delivery limit do not count as
// rejections, so that a cycle of them loses every message that completes it.
//
// It follows messages from every entrance that the topology shows: each binding, and the default exchange for a queue
// without bindings. It reports a cycle only if all messages of an entrance complete it.
func (t Topology) checkCycles(f *faults) {
	m := newRouting(t)
	for _, cycle := range m.cycles() {
		f.at = place("Queues", cycle[0], t.Queues[cycle[0]].Name)
		f.add(".DeadLetter", "messages circle through "+m.path(cycle)+
			", and RabbitMQ silently drops a message that returns to a queue without having been rejected on the way", m.fix(cycle))
	}
}

// cycles returns the cycles, each as indexes of queues that begin with the smallest one.
func (m *routing) cycles() [][]int {
	// In most topologies no queue dead-letters a message that was not rejected.
	if !slices.ContainsFunc(m.queues, func(d deadLetters) bool { return len(d.reasons) > 0 }) {
		return nil
	}
	m.connect()
	cycles := map[string][]int{}
	m.each(func(s state) {
		if cycle := m.cycle(s); cycle != nil {
			first := slices.Index(cycle, slices.Min(cycle)) // every cycle once, independent of its entrance
			cycle = slices.Concat(cycle[first:], cycle[:first])
			cycles[fmt.Sprint(cycle)] = cycle
		}
	})
	order := make([][]int, 0, len(cycles))
	for _, cycle := range cycles {
		order = append(order, cycle)
	}
	slices.SortFunc(order, func(a, b []int) int { return cmp.Or(cmp.Compare(a[0], b[0]), slices.Compare(a, b)) })
	return order
}

// path shows a cycle and why each of its queues dead-letters.
func (m *routing) path(cycle []int) string {
	var s strings.Builder
	for _, q := range cycle {
		fmt.Fprintf(&s, "%s (%s) → ", validate.Quote(m.Queues[q].Name), m.queues[q].reasons[0])
	}
	return s.String() + validate.Quote(m.Queues[cycle[0]].Name)
}

// fix returns how to break a cycle.
func (m *routing) fix(cycle []int) string {
	var keeps bool
	var found []reason
	for _, q := range cycle {
		keeps = keeps || m.queues[q].exchange == "" && m.queues[q].key == nil
		found = append(found, m.queues[q].reasons...)
	}
	var without []string
	for _, r := range []struct {
		reason reason
		fix    string
	}{
		{expired, "no MessageTTL"},
		{full, "Overflow: topology.RejectPublish"},
		{limited, "DeliveryLimit: new(topology.Unlimited)"},
	} {
		if slices.Contains(found, r.reason) {
			without = append(without, r.fix)
		}
	}
	s := "dead-letter to another queue, or let messages leave the queue that has consumers by rejection only: " + strings.Join(without, ", ")
	if keeps {
		s = "set DeadLetter.RoutingKey, or add the binding that brings messages with other routing keys; or " + s
	}
	return s
}

// cycle returns the queues through which every message of s returns to its queue without a rejection, or nil.
func (m *routing) cycle(s state) (cycle []int) {
	seen := map[string]bool{}
	var walk func(s state, path []int) bool
	walk = func(s state, path []int) bool {
		if len(m.queues[s.queue].reasons) == 0 {
			return false
		}
		path = append(path, s.queue)
		for _, next := range m.deadLetters(s) {
			if next.queue == path[0] {
				cycle = path
				return true
			}
			if id := next.id(); !seen[id] && !slices.Contains(path, next.queue) {
				seen[id] = true
				if walk(next, path) {
					return true
				}
			}
		}
		return false
	}
	walk(s, nil)
	return cycle
}

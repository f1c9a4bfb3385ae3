package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// checkRings finds rings in which RabbitMQ drops messages. RabbitMQ drops a message that is dead-lettered back to a
// queue that it left before, unless a consumer rejected it in one of the queues in between. It notifies neither the
// publisher nor a consumer (https://www.rabbitmq.com/docs/dlx#cycles). Expiry, overflow and the delivery limit do not
// count as rejections, so that a ring of them loses every message that completes it.
//
// It follows messages from every entrance that the topology shows: each binding, and for a queue without bindings
// the default exchange. A ring is reported only if all messages that take an entrance go round it.
func (t Topology) checkRings(f *faults) {
	m := newRouting(t)
	if m == nil {
		return
	}
	rings := map[string][]int{}
	m.each(func(s state) {
		if ring := m.ring(s); ring != nil {
			first := slices.Index(ring, slices.Min(ring)) // every ring once, wherever it was entered
			ring = slices.Concat(ring[first:], ring[:first])
			rings[fmt.Sprint(ring)] = ring
		}
	})
	order := make([][]int, 0, len(rings))
	for _, ring := range rings {
		order = append(order, ring)
	}
	slices.SortFunc(order, func(a, b []int) int { return cmp.Or(cmp.Compare(a[0], b[0]), slices.Compare(a, b)) })
	for _, ring := range order {
		f.at = place("Queues", ring[0], t.Queues[ring[0]].Name)
		f.add(".DeadLetter", "messages go round "+m.path(ring)+
			", and RabbitMQ silently drops a message that returns to a queue without having been rejected on the way", m.fix(ring))
	}
}

// path shows a ring with the reasons for which its queues dead-letter.
func (m *routing) path(ring []int) string {
	var s strings.Builder
	for _, q := range ring {
		fmt.Fprintf(&s, "%s (%s) → ", validate.Quote(m.Queues[q].Name), m.queues[q].reasons[0])
	}
	return s.String() + validate.Quote(m.Queues[ring[0]].Name)
}

// fix says how to break a ring.
func (m *routing) fix(ring []int) string {
	var keeps bool
	var found []reason
	for _, q := range ring {
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
	s := "let them end in another queue, or leave the queue that has consumers by rejection only: " + strings.Join(without, ", ")
	if keeps {
		s = "set DeadLetter.RoutingKey, or add the binding that brings messages with other routing keys; or " + s
	}
	return s
}

// A reason is why a queue dead-letters a message that no consumer rejected.
type reason string

const (
	expired reason = "expired"
	full    reason = "full"
	limited reason = "delivery limit"
)

// reasons returns why q dead-letters messages on its own. The default delivery limit is not among them: it is
// the broker's setting, and the usual pair of a work queue and a wait queue would not pass. A message's own expiration is
// unknown here.
func (q Queue) reasons() (reasons []reason) {
	if q.kind() == Stream {
		return nil
	}
	args := q.request().args
	if args["x-message-ttl"] != nil {
		reasons = append(reasons, expired)
	}
	if (args["x-max-length"] != nil || args["x-max-length-bytes"] != nil) && args["x-overflow"] != RejectPublish {
		reasons = append(reasons, full)
	}
	if limit, ok := integer(args["x-delivery-limit"]); ok && limit >= 0 && q.kind() == Quorum {
		reasons = append(reasons, limited)
	}
	return reasons
}

// ring returns the queues through which every message of s comes back to its queue without a rejection, or nil.
func (m *routing) ring(s state) (ring []int) {
	seen := map[string]bool{}
	var walk func(s state, path []int) bool
	walk = func(s state, path []int) bool {
		if len(m.queues[s.queue].reasons) == 0 {
			return false
		}
		path = append(path, s.queue)
		for _, next := range m.deadLetters(s) {
			if next.queue == path[0] {
				ring = path
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
	return ring
}

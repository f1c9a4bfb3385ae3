package topology

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// policies finds the policies of queues.
type policies struct {
	user, operator []matcher // the highest priority first
	unread         []Unseen
}

type matcher struct {
	Policy
	pattern *regexp.Regexp
}

func newPolicies(all []Policy) (ps policies) {
	for _, p := range all {
		pattern, err := regexp.Compile(p.Pattern)
		switch {
		case err != nil:
			ps.unread = append(ps.unread, Unseen{
				p.label(), "the plan does not show its effect, because its pattern is not a regular expression of Go; check its queues",
			})
		case p.Operator:
			ps.operator = append(ps.operator, matcher{p, pattern})
		default:
			ps.user = append(ps.user, matcher{p, pattern})
		}
	}
	first := func(a, b matcher) int { return b.Priority - a.Priority }
	slices.SortStableFunc(ps.user, first)
	slices.SortStableFunc(ps.operator, first)
	return ps
}

func (p Policy) label() string {
	if p.Operator {
		return "operator " + object{"policy", p.Name}.String()
	}
	return object{"policy", p.Name}.String()
}

// unsupported are the keys of a definition with which RabbitMQ does not apply a policy to a queue type at all.
var unsupported = map[QueueType][]string{
	Quorum: {"max-priority", "queue-mode", "queue-master-locator", "max-age", "stream-max-segment-size-bytes", "initial-cluster-size"},
	Classic: {
		"max-age", "stream-max-segment-size-bytes", "initial-cluster-size", "delivery-limit", "dead-letter-strategy",
		"max-in-memory-length", "max-in-memory-bytes", "target-group-size",
	},
	Stream: {
		"expires", "message-ttl", "dead-letter-exchange", "dead-letter-routing-key", "max-length", "max-in-memory-length",
		"max-in-memory-bytes", "max-priority", "overflow", "queue-mode", "delivery-limit", "queue-master-locator",
		"dead-letter-strategy", "target-group-size",
	},
}

// applies reports whether RabbitMQ may apply m to q.
func (m matcher) applies(q Queue) bool {
	kind := q.kind()
	if !slices.Contains([]string{"", "all", "queues", applyTo(kind)}, m.ApplyTo) || !m.pattern.MatchString(q.Name) {
		return false
	}
	for key := range m.Definition {
		if slices.Contains(unsupported[kind], key) {
			return false
		}
	}
	return true
}

// applyTo returns the Policy.ApplyTo for one queue type.
func applyTo(kind QueueType) string {
	if kind == Stream {
		return "streams"
	}
	return string(kind) + "_queues"
}

// notes returns a sentence for each argument of q that has another value because of a policy.
func (ps policies) notes(q Queue) (notes []string) {
	user, operator := first(ps.user, q), first(ps.operator, q)
	if user == nil && operator == nil {
		return nil
	}
	args := q.request().args
	for _, argument := range slices.Sorted(maps.Keys(args)) {
		key, _ := strings.CutPrefix(argument, "x-")
		value, by := decide(key, user, operator)
		if by == nil {
			continue
		}
		if effective := resolve(q.kind(), key, value, args[argument]); !same(effective, args[argument]) && !sameAge(effective, args[argument]) {
			notes = append(notes, fmt.Sprintf("%s is %s in the declaration and %s in effect, because of %s",
				argument, printed(args[argument]), printed(effective), by.label()))
		}
	}
	return notes
}

func first(all []matcher, q Queue) *Policy {
	for _, m := range all {
		if m.applies(q) {
			return &m.Policy
		}
	}
	return nil
}

// decide returns the value of a key in both policies together, and the policy that it comes from.
func decide(key string, user, operator *Policy) (value any, by *Policy) {
	for _, p := range []*Policy{user, operator} {
		if p == nil {
			continue
		}
		switch v, ok := p.Definition[key]; {
		case !ok:
		case by == nil || !same(lowest(key, value, v), value):
			value, by = v, p
		}
	}
	return value, by
}

// resolve returns the value in effect if a policy and an argument set the same key.
func resolve(on QueueType, key string, policy, argument any) any {
	switch key {
	case "max-length", "max-length-bytes", "max-age", "stream-max-segment-size-bytes", "stream-filter-size-bytes", "initial-cluster-size":
		if on == Stream {
			return policy
		}
		return lowest(key, argument, policy)
	case "expires", "message-ttl", "delivery-limit", "consumer-timeout", "consumer-disconnected-timeout", "delayed-retry-min", "delayed-retry-max":
		return lowest(key, argument, policy)
	case "overflow":
		if on == Quorum {
			return policy
		}
	case "delayed-retry-type", "queue-leader-locator":
		return policy
	}
	return argument
}

// lowest returns the value in effect if limit applies to a value: the lower one of two numbers, and otherwise the limit. A
// negative delivery limit is unlimited.
func lowest(key string, value, limit any) any {
	x, ok := integer(value)
	y, limitOK := integer(limit)
	switch {
	case !ok || !limitOK:
		return limit
	case key == "delivery-limit" && (x < 0 || y < 0):
		return max(x, y)
	}
	return min(x, y)
}

package topology

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// maxComparisons bounds the work for a queue with thousands of patterns. Bindings beyond it count as needed.
const maxComparisons = 100_000

// redundant compares the bindings with the same source and destination.
func (l *linter) redundant() {
	type ends struct{ source, queue, exchange string }
	groups := map[ends][]int{}
	var order []ends
	for i, b := range l.Bindings {
		e := ends{b.Source, b.Queue, b.Exchange}
		if groups[e] == nil {
			order = append(order, e)
		}
		groups[e] = append(groups[e], i)
	}
	comparisons := maxComparisons
	for _, e := range order {
		kind := l.kind(e.source)
		first := map[string]int{} // the first binding with a key
		var wide []int            // bindings that may cover others with another key
		for _, i := range groups[e] {
			b := l.Bindings[i]
			if _, ok := first[b.Key]; !ok {
				first[b.Key] = i
			}
			if kind == Fanout || kind == Headers || kind == Topic && !isLiteral(b.Key) {
				wide = append(wide, i)
			}
		}
		for _, i := range groups[e] {
			other, ok := first[l.Bindings[i].Key]
			if ok = ok && l.covers(kind, other, i); !ok {
				for _, other = range wide {
					if comparisons--; comparisons < 0 {
						break
					}
					if ok = l.covers(kind, other, i); ok {
						break
					}
				}
			}
			if ok {
				to := "queue"
				if e.queue == "" {
					to = "exchange"
				}
				l.report(l.binding(i), "", fmt.Sprintf("Bindings[%d], with key %s, already routes all its messages", other, validate.Quote(l.Bindings[other].Key)),
					"The "+to+" gets each message once, with or without this binding", fmt.Sprintf("remove this binding, or Bindings[%d] if it matches too much", other))
			}
		}
	}
}

// covers reports whether the binding wide routes all messages of the binding narrow, which has the same ends. If both are
// equal, only the first covers the other.
func (l *linter) covers(kind ExchangeType, wide, narrow int) bool {
	if wide == narrow {
		return false
	}
	w, n := l.Bindings[wide], l.Bindings[narrow]
	sameArguments := func() bool {
		return len(w.Arguments)+len(n.Arguments) == 0 || reflect.DeepEqual(w.Arguments, n.Arguments)
	}
	switch kind {
	case Fanout:
		return wide < narrow
	case Direct:
		return wide < narrow && w.Key == n.Key
	case Topic:
		return covers(w.Key, n.Key) && (wide < narrow || !covers(n.Key, w.Key))
	case Headers:
		return wide < narrow && sameArguments()
	}
	return wide < narrow && w.Key == n.Key && sameArguments()
}

// literalWildcard reports keys in which a wildcard was probably intended.
func (l *linter) literalWildcard() {
	for i, b := range l.Bindings {
		kind := l.kind(b.Source)
		for word := range strings.SplitSeq(b.Key, ".") {
			if !strings.ContainsAny(word, "*#") {
				continue
			}
			wildcard := word == "*" || word == "#"
			var problem, fix string
			switch {
			case kind == Direct && wildcard:
				problem, fix = "exchange "+validate.Quote(b.Source)+" is a direct exchange, which has no wildcards", "set the exchange's Type to topology.Topic, or bind each routing key"
			case kind == Topic && !wildcard:
				problem, fix = "a topic exchange has no wildcards inside of a word", `make * or # a separate word, as in "order.*"`
			default:
				continue
			}
			l.report(l.binding(i), ".Key", validate.Quote(b.Key)+" contains "+validate.Quote(word)+", and "+problem, "Only messages with exactly this text in their routing key match", fix)
			break
		}
	}
}

package topology

import (
	"fmt"
	"slices"
	"strings"
)

// This file has the rules about exchanges and queues that no message passes. A topology without queues or without
// bindings is a part of a larger one, so that they do not apply to it.

func (l *linter) withoutBindings() {
	if len(l.Queues) == 0 && len(l.Bindings) == 0 {
		return
	}
	deadLetters := map[string]bool{} // the rule dead-letter-unrouted reports these
	for _, d := range l.queues {
		deadLetters[d.exchange] = true
	}
	for i, x := range l.Exchanges {
		if len(l.from[x.Name]) == 0 && l.alternates[i] == "" && !deadLetters[x.Name] {
			l.report(l.exchange(i), ".Name", "is the Source of no binding, and the exchange has no alternate exchange",
				"Unless other programs bind their queues to it, RabbitMQ returns mandatory messages and drops the others", "add a Binding with this Source, set AlternateExchange, or remove the exchange")
		}
	}
}

func (l *linter) unreachableExchange() {
	sources := map[string]bool{}
	for _, b := range l.Bindings {
		sources[b.Exchange] = true
	}
	for _, alternate := range l.alternates {
		sources[alternate] = true
	}
	for _, d := range l.queues {
		sources[d.exchange] = true
	}
	for i, x := range l.Exchanges {
		if x.Internal && !sources[x.Name] {
			l.report(l.exchange(i), ".Internal", "is set, and the exchange is neither the destination of a binding, nor an alternate or dead-letter exchange",
				"RabbitMQ refuses publishes to an internal exchange with 403, so that no message reaches it", "leave Internal out, or add a Binding with this Exchange")
		}
	}
}

func (l *linter) unreachableQueue() {
	if len(l.Bindings) == 0 {
		return
	}
	for i, d := range l.queues {
		if d.follows && d.exchange == "" && slices.Contains(l.deadLetter.keys(i), nil) {
			return // its dead letters may reach any queue, by the routing keys of publishers
		}
	}
	for i, q := range l.Queues {
		if len(l.into[q.Name]) > 0 || l.deadLetter.fed[i] || q.Exclusive || l.waits(i) || l.parks(q.Name) {
			continue
		}
		l.report(l.queue(i), ".Name", "is the Queue of no binding, and the queue receives no dead letters",
			"Only messages that are published to the default exchange with the queue's name as routing key reach it",
			fmt.Sprintf("add a Binding with Queue: %q, or silence this finding if publishers use the name", q.Name))
	}
}

// parks reports whether name is the parking queue of another queue in package retry, which publishes to it by name.
func (l *linter) parks(name string) bool {
	of, ok := strings.CutSuffix(name, ".parked")
	_, known := l.names[of]
	return ok && known
}

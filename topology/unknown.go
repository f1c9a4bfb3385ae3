package topology

import (
	"fmt"
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// This file has the rules about objects that the topology names and does not contain. They may exist on the broker, where
// Declare and Verify look for them.

func (l *linter) unknownDeadLetterExchange() {
	l.unknown("Queues[", "exchange", "RabbitMQ drops dead letters while it does not exist; with the strategy at-least-once, the queue keeps them",
		"add the exchange to Exchanges and bind it, correct the name, or silence this finding if it is declared elsewhere")
}

func (l *linter) unknownDeadLetterQueue() {
	l.unknown("Queues[", "queue", "RabbitMQ drops dead letters while it does not exist; with the strategy at-least-once, the queue keeps them",
		"add the queue to Queues, correct the name, or silence this finding if it is declared elsewhere")
}

func (l *linter) unknownAlternate() {
	l.unknown("Exchanges[", "exchange", "RabbitMQ drops or returns unroutable messages while it does not exist",
		"add the exchange to Exchanges and bind it, correct the name, or silence this finding if it is declared elsewhere")
}

func (l *linter) unknownEnd() {
	l.unknown("Bindings[", "", "RabbitMQ refuses the binding with 404 while it does not exist",
		"add it to the topology, correct the name, or silence this finding if it is declared elsewhere")
}

// unknown reports each missing object once, at the first field in list that names it. An empty kind stands for both.
func (l *linter) unknown(list, kind, consequence, fix string) {
	suggestions := 20 // bounds the work
	for _, r := range l.references(true) {
		at := slices.IndexFunc(r.fields, func(field string) bool { return strings.HasPrefix(field, list) })
		if at < 0 || kind != "" && r.kind != kind || strings.HasPrefix(r.name, "amq.rabbitmq.") { // RabbitMQ declares these itself
			continue
		}
		s := l.subject(r.fields[at])
		field := strings.TrimPrefix(r.fields[at], s.at)
		problem := fmt.Sprintf("%s is not in this topology", r.object)
		if n := len(r.fields) - 1; n > 0 {
			problem += fmt.Sprintf(", and %d more fields name it", n)
		}
		better := fix
		if suggestions--; suggestions >= 0 {
			if near := validate.Similar(r.name, l.declaredNames(r.kind)); near != "" {
				better = "did you mean " + validate.Quote(near) + "? Otherwise " + fix
			}
		}
		s.object, s.name = r.object.String(), r.name
		l.report(s, field, problem, consequence, better)
	}
}

func (l *linter) declaredNames(kind string) (names []string) {
	if kind == "exchange" {
		for _, x := range l.Exchanges {
			names = append(names, x.Name)
		}
		return names
	}
	for _, q := range l.Queues {
		names = append(names, q.Name)
	}
	return names
}

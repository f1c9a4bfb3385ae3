package topology

// A LintRule describes a rule of [Topology.Lint].
type LintRule struct {
	ID       string
	Severity Severity
	From     string // the first version of RabbitMQ to which it applies; empty for all
	Before   string // the first version to which it no longer applies; empty for all
	Summary  string
}

// LintRules returns the rules of [Topology.Lint], most serious first.
func LintRules() []LintRule {
	all := make([]LintRule, len(rules))
	for i, r := range rules {
		all[i] = LintRule{ID: r.id, Severity: r.severity, Summary: r.summary}
		if r.from != (release{}) {
			all[i].From = r.from.String()
		}
		if r.before != (release{}) {
			all[i].Before = r.before.String()
		}
	}
	return all
}

// A rule is a check and the versions for which it runs: not before from, if that is set, and before before, if that is set.
type rule struct {
	id           string
	severity     Severity
	from, before release
	summary      string
	check        func(*linter)
}

var (
	v40  = release{4, 0, 0}
	v43  = release{4, 3, 0}
	v435 = release{4, 3, 5}
)

// rules are in the order of their severities.
var rules = []rule{
	{"invalid", SeverityError, release{}, release{}, "Validate, and so Declare, refuses the topology", (*linter).invalid},
	{"unlimited-delivery-limit", SeverityError, release{}, v40, "a delivery limit of -1 drops each message at its first redelivery", (*linter).unlimited},
	{"delayed-retry", SeverityError, release{}, v43, "DelayedRetry is ignored", (*linter).delayedRetry},
	{"classic-leader-locator", SeverityError, release{}, v40, "LeaderLocator is refused on a classic queue", (*linter).classicLocator},
	{"classic-queue-v1", SeverityError, v43, release{}, "x-queue-version 1 is refused", (*linter).classicV1},
	{"consumer-timeout", SeverityError, v43, release{}, "x-consumer-timeout is refused on classic queues and streams", (*linter).consumerTimeout},
	{"exchange-type", SeverityError, release{}, release{}, "the version does not have the type of an exchange", (*linter).exchangeTypes},
	{"topic-wildcards", SeverityError, v435, release{}, "a key of a topic exchange contains more than two #", (*linter).topicWildcards},

	{"transient-queue", SeverityWarning, v43, release{}, "a transient queue that is not exclusive is deprecated and may be refused", (*linter).transient},
	{"ignored-argument", SeverityWarning, release{}, release{}, "the version ignores an argument", (*linter).ignored},
	{"misspelt-argument", SeverityWarning, release{}, release{}, "AllowUnknownArguments hides a name that resembles a known one", (*linter).misspelt},
	{"delivery-limit-without-dead-letter", SeverityWarning, release{}, release{}, "a delivery limit drops messages", (*linter).explicitLimit},
	{"default-delivery-limit", SeverityWarning, v40, release{}, "the default delivery limit of 20 drops messages", (*linter).defaultLimit},
	{"default-limit-cycle", SeverityWarning, v40, release{}, "the default delivery limit of 20 drops messages in a cycle of dead letters", (*linter).limitCycle},
	{"dead-letter-queue-limit", SeverityWarning, v43, release{}, "the first requeue removes a message that died of its delivery limit", (*linter).arrivedAtLimit},
	{"delayed-retry-order", SeverityWarning, v43, release{}, "DelayedRetry breaks the order of a single active consumer", (*linter).retryOrder},
	{"unknown-dead-letter-exchange", SeverityWarning, release{}, release{}, "a dead-letter exchange is not in the topology", (*linter).unknownDeadLetterExchange},
	{"unknown-dead-letter-queue", SeverityWarning, release{}, release{}, "the queue that dead letters are sent to is not in the topology", (*linter).unknownDeadLetterQueue},
	{"unknown-alternate-exchange", SeverityWarning, release{}, release{}, "an alternate exchange is not in the topology", (*linter).unknownAlternate},
	{"unknown-binding-end", SeverityWarning, release{}, release{}, "a binding names an exchange or a queue that is not in the topology", (*linter).unknownEnd},
	{"dead-letter-unrouted", SeverityWarning, release{}, release{}, "no binding takes the dead letters of a queue", (*linter).unrouted},
	{"exchange-without-bindings", SeverityWarning, release{}, release{}, "an exchange routes to nothing", (*linter).withoutBindings},
	{"unreachable-exchange", SeverityWarning, release{}, release{}, "an internal exchange has no source", (*linter).unreachableExchange},
	{"unreachable-queue", SeverityWarning, release{}, release{}, "a queue has no binding and receives no dead letters", (*linter).unreachableQueue},
	{"literal-wildcard", SeverityWarning, release{}, release{}, "a * or # in a binding key is compared literally", (*linter).literalWildcard},
	{"unbounded-stream", SeverityWarning, release{}, release{}, "a stream grows until the disk is full", (*linter).unboundedStream},

	{"redundant-binding", SeverityNote, release{}, release{}, "another binding routes the same messages to the same place", (*linter).redundant},
	{"unbounded-queue", SeverityNote, release{}, release{}, "a queue has neither a length limit nor a TTL", (*linter).unboundedQueue},
	{"nack-not-counted", SeverityNote, v43, release{}, "a nack with requeue no longer counts towards a delivery limit", (*linter).nackNotCounted},
}

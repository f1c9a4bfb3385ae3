package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// This file has the rules about features that a version refuses, ignores or deprecates. Which queue type accepts which
// argument is in the functions capabilities and declare_args of RabbitMQ's rabbit_{classic,quorum,stream}_queue.erl and
// rabbit_amqqueue.erl at the tags v3.13.7, v4.0.5, v4.2.9 and v4.3.5.

// unlimited: before 4.0, RabbitMQ compares the limit with the count as it is.
func (l *linter) unlimited() {
	for i, q := range l.Queues {
		if limit, ok := integer(l.args[i]["x-delivery-limit"]); ok && limit < 0 && q.kind() == Quorum {
			l.report(l.queue(i), q.field("x-delivery-limit"), "is Unlimited", "RabbitMQ before 4.0 drops or dead-letters each message at its first redelivery",
				"leave DeliveryLimit out: before 4.0 there is no limit by default")
		}
	}
}

// delayedRetry: release notes of 4.3.0, "Quorum Queues Enhancements".
func (l *linter) delayedRetry() {
	for i, q := range l.Queues {
		if _, ok := l.args[i]["x-delayed-retry-type"]; ok {
			l.report(l.queue(i), q.field("x-delayed-retry-type"), "RabbitMQ ignores it before 4.3", "Failed messages are redelivered at once, and Declare refuses the queue",
				"leave DelayedRetry out and use package retry, whose wait queues work with RabbitMQ 4.0")
		}
	}
}

func (l *linter) classicLocator() {
	for i, q := range l.Queues {
		if _, ok := l.args[i]["x-queue-leader-locator"]; ok && q.kind() == Classic {
			l.report(l.queue(i), q.field("x-queue-leader-locator"), "RabbitMQ before 4.0 does not know it on a classic queue", "RabbitMQ refuses the declaration with 406",
				"leave LeaderLocator out")
		}
	}
}

// classicV1: release notes of 4.3.0, "Classic Queues v1 Storage (CQv1) is Removed".
func (l *linter) classicV1() {
	for i, q := range l.Queues {
		if version, ok := integer(l.args[i]["x-queue-version"]); ok && version == 1 && q.kind() == Classic {
			l.report(l.queue(i), raw("x-queue-version"), "RabbitMQ 4.3 has no version 1 of classic queues", "RabbitMQ refuses the declaration with 406",
				"leave the argument out of Arguments")
		}
	}
}

// consumerTimeout: release notes of 4.3.0, "Consumer Timeouts are No Longer Evaluated for Classic Queues and Streams".
func (l *linter) consumerTimeout() {
	for i, q := range l.Queues {
		if _, ok := l.args[i]["x-consumer-timeout"]; ok && q.kind() != Quorum {
			l.report(l.queue(i), raw("x-consumer-timeout"), fmt.Sprintf("RabbitMQ 4.3 has consumer timeouts only on quorum queues, and this is a %s queue", q.kind()),
				"RabbitMQ refuses the declaration with 406", "leave the argument out of Arguments, or set Type: topology.Quorum")
		}
	}
}

// transient: release notes of 4.3.0, "Deprecated Features are Now Disabled by Default". Some packages permit it (4.3.6 of
// Debian).
func (l *linter) transient() {
	for i, q := range l.Queues {
		if q.Transient && !q.Exclusive {
			l.report(l.queue(i), ".Transient", "RabbitMQ deprecates transient queues that are not exclusive, and 4.3 refuses them unless its configuration permits them",
				"RabbitMQ closes the connection that declares the queue, with 541", "leave Transient out and set Expires to have unused queues deleted, or set Exclusive")
		}
	}
}

// exchangeTypes: release notes of 4.0.1 (x-local-random) and 4.3.0 (Mnesia is removed), and the exchange types in
// deps/rabbit/src. The delayed message plugin needs Mnesia and is archived
// (https://github.com/rabbitmq/rabbitmq-delayed-message-exchange).
func (l *linter) exchangeTypes() {
	for i, x := range l.Exchanges {
		const refused = "RabbitMQ refuses the exchange with 406, and its bindings with 404"
		s := l.exchange(i)
		switch {
		case x.Type == "x-local-random" && l.release.before(v40):
			l.report(s, ".Type", "RabbitMQ has x-local-random since 4.0", refused, "use another Type")
		case x.Type == "x-modulus-hash" && l.release.before(v43):
			l.report(s, ".Type", "RabbitMQ has x-modulus-hash since 4.3; before, it needs the plugin rabbitmq_sharding", refused,
				"enable the plugin and silence this finding, or use another Type")
		case x.Type == "x-delayed-message" && !l.release.before(v43):
			l.report(s, ".Type", "the delayed message plugin stores messages in Mnesia, which RabbitMQ 4.3 does not have", refused,
				"use a queue with MessageTTL and DeadLetter for each delay")
		}
	}
}

// topicWildcards: release notes of 4.3.5, https://github.com/rabbitmq/rabbitmq-server/pull/17039.
func (l *linter) topicWildcards() {
	for i, b := range l.Bindings {
		if l.kind(b.Source) != Topic {
			continue
		}
		n := 0
		for word := range strings.SplitSeq(b.Key, ".") {
			if word == "#" {
				n++
			}
		}
		if n > 2 {
			l.report(l.binding(i), ".Key", fmt.Sprintf("%s contains %d words #, and RabbitMQ allows two since 4.3.5", validate.Quote(b.Key), n),
				"RabbitMQ refuses the binding with 406", "use fewer #, or a headers exchange")
		}
	}
}

// ignoredArguments are accepted by the queue type, and without effect for the versions.
var ignoredArguments = []struct {
	key    string
	on     QueueType
	before release // zero: for all versions
	why    string
}{
	// Release notes of 3.12.0, "Highlights".
	{"x-queue-mode", Classic, release{}, "since 3.12, every classic queue writes messages to disk early and keeps few in memory"},
	// Release notes of 3.10.0: quorum queues keep no message bodies in memory.
	{"x-max-in-memory-length", Quorum, release{}, "since 3.10, quorum queues keep no messages in memory"},
	{"x-max-in-memory-bytes", Quorum, release{}, "since 3.10, quorum queues keep no messages in memory"},
	{"x-consumer-disconnected-timeout", Quorum, v43, "RabbitMQ has it since 4.3"},
}

func (l *linter) ignored() {
	for i, q := range l.Queues {
		for _, a := range ignoredArguments {
			if _, ok := l.args[i][a.key]; ok && a.on == q.kind() && (a.before == release{} || l.release.before(a.before)) {
				l.report(l.queue(i), raw(a.key), "RabbitMQ ignores it: "+a.why, "The argument has no effect, but RabbitMQ compares it when the queue is declared again",
					"leave it out of Arguments")
			}
		}
	}
}

// misspelt checks the arguments that Validate skips because of AllowUnknownArguments.
func (l *linter) misspelt() {
	report := func(s subject, args amqp.Table, known []string) {
		for _, key := range slices.Sorted(maps.Keys(args)) {
			if near := validate.Similar(key, known); near != "" && !slices.Contains(known, key) {
				l.report(s, raw(key), fmt.Sprintf("is unknown and resembles %q", near), "RabbitMQ ignores unknown arguments", fmt.Sprintf("write %q, or silence this finding", near))
			}
		}
	}
	for i, x := range l.Exchanges {
		if known := exchangeArguments[x.Type]; x.AllowUnknownArguments && known != nil {
			report(l.exchange(i), x.Arguments, slices.Collect(maps.Keys(known)))
		}
	}
	for i, q := range l.Queues {
		if q.AllowUnknownArguments {
			report(l.queue(i), q.Arguments, slices.Collect(maps.Keys(queueArguments)))
		}
	}
	for i, b := range l.Bindings {
		if kind := l.kind(b.Source); b.AllowUnknownArguments && (kind == Headers || kind == "") {
			report(l.binding(i), b.Arguments, []string{"x-match"})
		}
	}
}

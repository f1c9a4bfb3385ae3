package topology

import (
	"fmt"
	"slices"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// This file has the rules about delivery limits and about queues without any limit.

// defaultDeliveryLimit is the limit of a quorum queue without another one, since RabbitMQ 4.0
// (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling).
const defaultDeliveryLimit = 20

// limit returns after how many redeliveries the queue i dead-letters or drops a message, and whether that is the default.
// ok is false if there is no limit.
func (l *linter) limit(i int) (limit int64, byDefault, ok bool) {
	if l.Queues[i].kind() != Quorum {
		return 0, false, false
	}
	if v, set := l.args[i]["x-delivery-limit"]; set {
		n, isNumber := integer(v)
		return n, false, isNumber && n >= 0
	}
	return defaultDeliveryLimit, true, !l.release.before(v40)
}

// drops describes the consequence of a delivery limit.
func (l *linter) drops(limit int64) string {
	failed := "rejected it with requeue"
	if l.release.before(v43) { // nack counts too
		failed = "requeued it"
	}
	return fmt.Sprintf("RabbitMQ drops a message after its consumers %s, or lost their connections, more than %d times", failed, limit)
}

func (l *linter) explicitLimit() { l.dropsAtLimit(false) }

func (l *linter) defaultLimit() { l.dropsAtLimit(true) }

// dropsAtLimit reports queues with a limit and without a dead-letter exchange. It leaves out the ones that the rule
// dead-letter-queue-limit reports for the same field.
func (l *linter) dropsAtLimit(byDefault bool) {
	for i, q := range l.Queues {
		limit, isDefault, ok := l.limit(i)
		if !ok || isDefault != byDefault || l.queues[i].follows {
			continue
		}
		if _, arrived := l.atLimit(i); arrived && !l.release.before(v43) {
			continue
		}
		s, consequence := l.queue(i), l.drops(limit)
		if byDefault {
			l.report(s, ".DeliveryLimit", "is not set, so that RabbitMQ takes 20, and the queue has no dead-letter exchange", consequence,
				"set DeadLetter, or set DeliveryLimit: new(topology.Unlimited) if consumers dispose of every message themselves")
		} else {
			l.report(s, q.field("x-delivery-limit"), fmt.Sprintf("is %d, and the queue has no dead-letter exchange", limit), consequence,
				"set DeadLetter, or set DeliveryLimit: new(topology.Unlimited)")
		}
	}
}

// atLimit returns the queue whose dead letters arrive in the queue i with more deliveries than i allows. Since 4.3,
// x-delivery-count travels with a dead letter, so that its first requeue exceeds the limit of i.
func (l *linter) atLimit(i int) (from int, ok bool) {
	limit, _, limited := l.limit(i)
	feed, fed := l.deadLetter.feeds[i]
	if !limited || !fed || l.waits(i) || limit > feed.limit+1 {
		return 0, false
	}
	return feed.from, true
}

func (l *linter) arrivedAtLimit() {
	for i := range l.Queues {
		from, ok := l.atLimit(i)
		if !ok {
			continue
		}
		own, _, _ := l.limit(i)
		theirs, _, _ := l.limit(from)
		consequence := "drops"
		if l.queues[i].follows {
			consequence = "dead-letters"
		}
		l.report(l.queue(i), ".DeliveryLimit",
			fmt.Sprintf("is %d, and messages that died of the delivery limit of %s arrive with a delivery count of %d", own, validate.Quote(l.Queues[from].Name), theirs+1),
			"RabbitMQ "+consequence+" such a message when it is requeued for the first time, which reading it without an acknowledgement does",
			"set DeliveryLimit: new(topology.Unlimited)")
	}
}

// waits reports whether the queue i holds messages until they expire, and then sends them on. Usually it has no consumer.
func (l *linter) waits(i int) bool {
	_, expires := l.args[i]["x-message-ttl"]
	return expires && l.queues[i].follows
}

// limitCycle finds the cycles that Validate does not report, because it leaves the default limit out.
func (l *linter) limitCycle() {
	t := Topology{Exchanges: l.Exchanges, Queues: slices.Clone(l.Queues), Bindings: l.Bindings}
	for i := range t.Queues {
		if _, byDefault, ok := l.limit(i); ok && byDefault {
			t.Queues[i].DeliveryLimit = new(defaultDeliveryLimit)
		}
	}
	known := map[string]bool{}
	for _, cycle := range newRouting(l.Topology).cycles() {
		known[fmt.Sprint(cycle)] = true
	}
	m := newRouting(t)
	for _, cycle := range m.cycles() {
		if known[fmt.Sprint(cycle)] {
			continue
		}
		at := slices.IndexFunc(cycle, func(q int) bool {
			_, byDefault, ok := l.limit(q)
			return ok && byDefault && m.queues[q].reasons[0] == limited
		})
		l.report(l.queue(cycle[max(at, 0)]), ".DeliveryLimit", "is not set, so that RabbitMQ takes 20, and dead letters return to the queue: "+m.path(cycle),
			l.drops(defaultDeliveryLimit), "set DeliveryLimit: new(topology.Unlimited)")
	}
}

// nackNotCounted: a nack with requeue returns a message without a failure since 4.3
// (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling).
func (l *linter) nackNotCounted() {
	for i, q := range l.Queues {
		if limit, byDefault, ok := l.limit(i); ok && !byDefault {
			l.report(l.queue(i), q.field("x-delivery-limit"), fmt.Sprintf("is %d, and RabbitMQ 4.3 counts neither basic.nack nor basic.recover with requeue", limit),
				"A message that a consumer nacks with requeue is redelivered any number of times", "let consumers reject with requeue, as package consumer does, or silence this finding")
		}
	}
}

// retryOrder: a delayed message does not hold up the ones behind it.
func (l *linter) retryOrder() {
	for i, q := range l.Queues {
		if _, ok := l.args[i]["x-delayed-retry-type"]; ok && l.args[i]["x-single-active-consumer"] == true {
			l.report(l.queue(i), q.field("x-delayed-retry-type"), "is set together with SingleActiveConsumer", "Other messages overtake a message that waits for its retry",
				"leave DelayedRetry out if the order matters, or leave SingleActiveConsumer out")
		}
	}
}

func (l *linter) unboundedStream() {
	for i, q := range l.Queues {
		if q.kind() == Stream && l.args[i]["x-max-age"] == nil && l.args[i]["x-max-length-bytes"] == nil {
			l.report(l.queue(i), ".MaxAge", "is not set, and neither is MaxLengthBytes", "The stream keeps all messages until the disk is full, and then publishers are blocked",
				"set MaxAge or MaxLengthBytes")
		}
	}
}

func (l *linter) unboundedQueue() {
	for i, q := range l.Queues {
		if q.kind() == Stream || q.Exclusive || q.AutoDelete {
			continue
		}
		bounded := slices.ContainsFunc([]string{"x-max-length", "x-max-length-bytes", "x-message-ttl", "x-expires"}, func(key string) bool { return l.args[i][key] != nil })
		if !bounded {
			l.report(l.queue(i), ".MaxLength", "is not set, and neither are MaxLengthBytes, MessageTTL and Expires",
				"Without a policy that limits it, the queue grows until the disk alarm blocks all publishers",
				"set MaxLengthBytes with Overflow: topology.RejectPublish, set MessageTTL, or limit it by a policy and silence this finding")
		}
	}
}

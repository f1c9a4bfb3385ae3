package broker

import (
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

func (ch *channel) queueDeclare(m *codec.QueueDeclare) *exception {
	name := plain(m.Queue)
	if name == replyName || strings.HasPrefix(name, replyPrefix) {
		return ch.declareReplies(name, m.NoWait)
	}
	if m.Passive {
		return ch.declarePassive(name, m.NoWait)
	}
	var owner *conn
	durable := m.Durable
	if m.Exclusive {
		owner, durable = ch.c, false // an exclusive queue is never durable
	}
	arguments := m.Arguments
	v, ok := arguments.Get("x-queue-type")
	kind, isString := v.(string)
	if !ok || isString && (kind == "" || kind == "undefined") {
		kind, isString = kindClassic, true
	}
	if !ok { // an empty type is stored and compared as it is
		arguments = arguments.With("x-queue-type", kindClassic)
	}
	switch {
	case name == "" && kind == kindQuorum:
		return raise(preconditionFailed, "Cannot declare a server-named queue for type rabbit_quorum_queue")
	case name == "":
		name = "amq.gen-" + unique()
	case strings.HasPrefix(name, "amq."):
		return raise(accessRefused, "queue name '%s' contains reserved prefix 'amq.*'", name)
	}
	q := ch.c.vhost.queues[name]
	if q != nil {
		if e := q.differs(durable, m.AutoDelete, owner, arguments); e != nil {
			return e
		}
		q.restartExpiry()
	} else {
		if e := ch.checkQueue(name, kind, isString, m, arguments); e != nil {
			return e
		}
		q = ch.b.newQueue(ch.c.vhost, name, durable, m.AutoDelete, owner, arguments)
		ch.c.vhost.retryDeadLetters()
	}
	ch.declared(q.name, q.ready, q.consumerCount(), m.NoWait)
	return nil
}

func (ch *channel) declarePassive(name string, noWait bool) *exception {
	q := ch.c.vhost.queues[name]
	if q == nil {
		return ch.noQueue(name)
	}
	if e := ch.checkOwner(q); e != nil {
		return e
	}
	if !q.quorum { // a passive declare counts as use of a classic queue
		q.restartExpiry()
	}
	ch.declared(name, q.ready, q.consumerCount(), noWait)
	return nil
}

func (ch *channel) declared(name string, ready, consumers int, noWait bool) {
	ch.last = name
	ch.answer(noWait, &codec.QueueDeclareOk{Queue: name, Messages: uint32(ready), Consumers: uint32(consumers)})
}

// consumerCount returns the number of consumers in queue.declare-ok. A quorum queue counts consumers that may receive
// messages, which excludes inactive ones of a single active consumer, and holders of unsettled messages, also after
// basic.get or basic.cancel.
func (q *queue) consumerCount() int {
	if !q.quorum {
		return len(q.consumers)
	}
	n := len(q.consumers)
	if q.single {
		n = 0
		if q.active != nil {
			n = 1
		}
	}
	cancelled := make(map[*consumer]bool)
	for d := range q.delivered {
		switch {
		case d.consumer == nil:
			n++
		case !slices.Contains(q.consumers, d.consumer):
			cancelled[d.consumer] = true
		}
	}
	return n + len(cancelled)
}

// checkQueue returns an error if the queue cannot be declared.
func (ch *channel) checkQueue(name, kind string, isString bool, m *codec.QueueDeclare, arguments codec.Table) *exception {
	where := "queue '" + name + "' in vhost '" + ch.c.vhost.name + "'"
	if v, ok := arguments.Get("x-dead-letter-exchange"); ok {
		if _, ok := v.(string); !ok {
			return raise(preconditionFailed, "invalid type '%s' for arg 'x-dead-letter-exchange' in %s", codec.TypeName(v), where)
		}
	}
	known := classicArguments
	switch {
	case !isString:
		v, _ := arguments.Get("x-queue-type")
		return raise(preconditionFailed, "invalid arg 'x-queue-type' for %s: {unacceptable_type,%s}", where, codec.TypeName(v))
	case kind == kindQuorum:
		known = quorumArguments
	case kind == "stream":
		return unsupported("streams are not implemented (%s)", where)
	case kind != kindClassic:
		return raise(preconditionFailed, "invalid arg 'x-queue-type' for %s: \"unsupported queue type '%s'\"", where, kind)
	}
	if e := checkArguments(arguments, queueChecks, known, allArguments, where, "rabbit_"+kind+"_queue"); e != nil {
		return e
	}
	if _, ok := arguments.Get("x-queue-master-locator"); ok {
		return raise(internalError, "Feature `queue_master_locator` is deprecated.\nBy default, this feature is not permitted anymore.\n"+
			"The feature will be removed from a future major RabbitMQ version, regardless of the configuration; "+
			"actual version to be determined.\nTo continue using this feature when it is not permitted by default, set a parameter")
	}
	if kind == kindQuorum {
		for _, p := range []struct {
			wrong bool
			name  string
		}{{m.AutoDelete, "auto-delete"}, {m.Exclusive, "exclusive-owner"}, {!m.Durable, "non-durable"}} {
			if p.wrong {
				return raise(preconditionFailed, "invalid property '%s' for %s", p.name, where)
			}
		}
	}
	return nil
}

// differs compares an existing queue with the declared one and returns the first difference in RabbitMQ's order.
func (q *queue) differs(durable, autoDelete bool, owner *conn, arguments codec.Table) *exception {
	if q.owner != owner {
		return q.locked()
	}
	for _, f := range []struct {
		name      string
		has, want bool
	}{{"durable", q.durable, durable}, {"auto_delete", q.autoDelete, autoDelete}} {
		if f.has != f.want {
			return raise(preconditionFailed, "inequivalent arg '%s' for %s: received '%v' but current is '%v'",
				f.name, q.where(), f.want, f.has)
		}
	}
	known := classicArguments
	if q.quorum {
		known = quorumArguments
	}
	for _, name := range known {
		if e := inequivalent(q.where(), name, q.arguments, arguments); e != nil {
			return e
		}
	}
	return nil
}

func (ch *channel) queuePurge(m *codec.QueuePurge) *exception {
	if ch.b.replies[m.Queue] != nil { // it stores nothing
		ch.answer(m.NoWait, new(codec.QueuePurgeOk))
		return nil
	}
	q, e := ch.find(m.Queue)
	if e != nil {
		return e
	}
	ch.answer(m.NoWait, &codec.QueuePurgeOk{Messages: uint32(q.purge())})
	return nil
}

func (ch *channel) queueDelete(m *codec.QueueDelete) *exception {
	name := plain(m.Queue)
	if name == "" {
		if name = ch.last; name == "" {
			return raise(notFound, "no previously declared queue")
		}
	}
	q := ch.c.vhost.queues[name]
	if q == nil {
		ch.answer(m.NoWait, new(codec.QueueDeleteOk))
		return nil
	}
	if e := ch.checkOwner(q); e != nil {
		return e
	}
	if e := q.checkDelete(m.IfUnused, m.IfEmpty); e != nil {
		return e
	}
	ch.answer(m.NoWait, &codec.QueueDeleteOk{Messages: uint32(q.ready)})
	ch.b.removeQueue(q) // its consumers are notified after the answer
	return nil
}

func (q *queue) checkDelete(ifUnused, ifEmpty bool) *exception {
	unsupported := func(flag string) *exception {
		return raise(notImplemented, "cannot delete %s. queue.delete operations with %s flag set are not supported by quorum queues",
			q.where(), flag)
	}
	switch {
	case q.quorum && ifUnused:
		return unsupported("if-unused")
	case q.quorum && ifEmpty:
		return unsupported("if-empty")
	case ifEmpty && q.ready > 0:
		return raise(preconditionFailed, "%s not empty", q.where())
	case ifUnused && len(q.consumers) > 0:
		return raise(preconditionFailed, "%s in use", q.where())
	}
	return nil
}

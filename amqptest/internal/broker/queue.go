package broker

import (
	"slices"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

const (
	kindClassic = "classic"
	kindQuorum  = "quorum"

	dropHead         = "drop-head"
	rejectPublish    = "reject-publish"
	rejectPublishDLX = "reject-publish-dlx"

	// maxPrefetch is what a quorum queue has outstanding at a consumer at most.
	maxPrefetch = 2000
)

// A queue keeps messages in order until they are delivered and settled.
type queue struct {
	b          *Broker
	v          *vhost
	name       string
	durable    bool
	autoDelete bool
	owner      *conn // of an exclusive queue
	arguments  codec.Table
	settings

	returns   list   // of a quorum queue: delivered before all others
	bands     []band // by priority, the highest first
	ready     int
	bytes     int // of what is ready
	delayed   []*entry
	pending   []*pendingDeath
	unsettled int // delivered, and not settled
	rejecting bool
	refused   bool                   // it rejected a message, and has had no room since
	retrying  bool                   // what is pending is to be tried again
	served    uint64                 // the last number when it was served: what has a higher one has not waited for a consumer
	delivered map[*delivery]struct{} // those unsettled

	consumers    []*consumer // the highest priority first, within one the next to be served
	active       *consumer   // of a queue with a single active consumer
	hadConsumers bool

	due    timer // a message expires, or its delay is over
	unused timer // the queue expires
	slow   timer // a delivery has been unsettled too long
	dirty  bool
	gone   bool
}

// A band has the messages of one priority.
type band struct {
	priority int
	list     list
}

// An entry is a message in a queue.
type entry struct {
	*message
	seq         uint64
	priority    int
	expires     time.Time // zero for never
	redelivered bool
	acquired    int // how often a quorum queue delivered it and got it back
	failures    int // how often by a failure, also in the queues that it was dead-lettered from
	at          time.Time
}

func (b *Broker) newQueue(v *vhost, name string, durable, autoDelete bool, owner *conn, arguments codec.Table) *queue {
	q := &queue{
		b: b, v: v, name: name, durable: durable, autoDelete: autoDelete, owner: owner, arguments: arguments,
		settings: newSettings(arguments, b.cfg.ConsumerTimeout), delivered: make(map[*delivery]struct{}),
	}
	q.due.run = q.touch
	q.unused.run = func() { b.removeQueue(q) }
	q.slow.run = q.timeOut
	v.queues[name] = q
	q.used()
	return q
}

func (q *queue) where() string { return "queue '" + q.name + "' in vhost '" + q.v.name + "'" }

// touch has the queue served at the end of the update.
func (q *queue) touch() {
	if !q.dirty && !q.gone {
		q.dirty = true
		q.b.dirty = append(q.b.dirty, q)
	}
}

// used starts the time after which a queue that nobody uses is deleted.
func (q *queue) used() {
	if q.expires < 0 {
		return
	}
	if len(q.consumers) > 0 {
		q.b.clock.unset(&q.unused)
		return
	}
	q.b.clock.set(&q.unused, q.b.now.Add(milliseconds(q.expires)))
}

// accept takes a message, or returns false if the queue is full and rejects what is published.
func (q *queue) accept(m *message) bool {
	if q.full(m) {
		q.refused = true
		if q.overflow == rejectPublishDLX {
			q.deadLetter(&entry{message: m}, "maxlen", m.failures)
		}
		return false
	}
	q.put(m)
	return true
}

// put takes a message, however many there are.
func (q *queue) put(m *message) {
	e := &entry{message: m, seq: q.b.next(), failures: m.failures}
	switch {
	case !q.quorum:
		e.priority = min(int(m.properties.Priority), q.maxPriority)
	case m.properties.Has&codec.HasPriority != 0:
		e.priority = min(int(m.properties.Priority), 31)
	default:
		e.priority = 4
	}
	if ttl := shorter(m.ttl, q.ttl); ttl >= 0 {
		e.expires = q.b.now.Add(milliseconds(ttl))
	}
	q.count(e, 1)
	q.band(e.priority).push(e)
	if q.quorum && q.over() {
		q.rejecting = true
	}
	q.touch()
}

func (q *queue) band(priority int) *list {
	i, ok := slices.BinarySearchFunc(q.bands, priority, func(b band, p int) int { return p - b.priority })
	if !ok {
		q.bands = slices.Insert(q.bands, i, band{priority: priority})
	}
	return &q.bands[i].list
}

// head is the list that the next message is in, or nil.
func (q *queue) head() *list {
	if q.returns.len() > 0 {
		return &q.returns
	}
	for i := range q.bands {
		if q.bands[i].list.len() > 0 {
			return &q.bands[i].list
		}
	}
	return nil
}

func (q *queue) pop(l *list) *entry {
	e := l.pop()
	q.count(e, -1)
	return e
}

// serve delivers what can be delivered, and then lets expire and drops what must be.
func (q *queue) serve() {
	if q.gone {
		return
	}
	last := q.b.seq
	q.promote()
	q.expire(q.overdue)
	for l := q.head(); l != nil; l = q.head() {
		c := q.nextConsumer()
		if c == nil {
			break
		}
		c.deliver(q.pop(l))
		q.expire(q.overdue) // what is at the head now
	}
	q.served = last
	q.expire(q.expired)
	q.dropHeads()
	if q.rejecting && q.below() {
		q.rejecting = false
	}
	if q.refused && q.hasRoom() {
		q.refused = false
		q.v.rerouted()
	}
	q.retryDeaths()
	q.schedule()
}

// dropHeads has a queue keep to its limit, if it does that by dropping what is at its head.
func (q *queue) dropHeads() {
	for q.overflow == dropHead && q.over() {
		l := q.head()
		if l == nil {
			return
		}
		e := q.pop(l)
		q.deadLetter(e, "maxlen", e.failures)
	}
}

// list is the one of a band, or with -1 that of what was returned.
func (q *queue) list(i int) *list {
	if i < 0 {
		return &q.returns
	}
	return &q.bands[i].list
}

// purge drops what is ready, and delayed.
func (q *queue) purge() int {
	n := q.ready + len(q.delayed)
	q.returns, q.bands, q.delayed, q.ready, q.bytes = list{}, nil, nil, 0, 0
	q.touch()
	return n
}

// removeQueue deletes a queue with all it has, and tells its consumers.
func (b *Broker) removeQueue(q *queue) {
	if q.gone {
		return
	}
	q.gone = true
	delete(q.v.queues, q.name)
	delete(q.v.waiting, q)
	for _, t := range []*timer{&q.due, &q.unused, &q.slow} {
		b.clock.unset(t)
	}
	slices.SortStableFunc(q.consumers, func(a, b *consumer) int { return strings.Compare(a.tag, b.tag) })
	for _, c := range q.consumers {
		c.tellCancelled()
		delete(c.ch.consumers, c.tag)
	}
	q.consumers, q.active = nil, nil
	b.unbindAll(q.v, q.name, false)
}

// restart keeps what a queue has after the broker stopped: all of it, or what is persistent.
func (q *queue) restart() {
	for i := range q.bands {
		if !q.quorum {
			q.bands[i].list = list{items: slices.DeleteFunc(slices.Clone(q.bands[i].list.all()), func(e *entry) bool {
				if !e.persistent {
					q.count(e, -1)
				}
				return !e.persistent
			})}
		}
	}
}

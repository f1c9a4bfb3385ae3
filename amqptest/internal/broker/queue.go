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

	// maxPrefetch is the maximum number of unsettled deliveries per consumer of a quorum queue.
	maxPrefetch = 2000
)

// A queue holds messages in order until they are delivered and settled.
type queue struct {
	b          *Broker
	v          *vhost
	name       string
	durable    bool
	autoDelete bool
	owner      *conn // of an exclusive queue
	arguments  codec.Table
	settings

	returns   list   // requeued messages of a quorum queue, delivered before all others
	bands     []band // by priority, highest first
	ready     int
	bytes     int // of the ready messages
	delayed   []*entry
	pending   []*pendingDeadLetter
	unsettled int // delivered and unsettled
	rejecting bool
	refused   bool                   // it rejected a message and has not had room since
	retrying  bool                   // pending dead letters must be retried
	served    uint64                 // sequence number at the last serve; later entries have not waited for a consumer
	delivered map[*delivery]struct{} // the unsettled ones

	consumers    []*consumer // by priority, highest first, then in the order of their turns
	active       *consumer   // the single active consumer
	hadConsumers bool

	due             timer // a message expires or its delay elapses
	expiry          timer // the queue expires
	consumerTimeout timer // a delivery exceeds the consumer timeout
	dirty           bool
	gone            bool
}

// A band holds the messages of one priority.
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
	acquired    int // how often a quorum queue requeued it after a delivery
	failures    int // how often it was requeued as failed, also in queues it was dead-lettered from
	at          time.Time
}

func (b *Broker) newQueue(v *vhost, name string, durable, autoDelete bool, owner *conn, arguments codec.Table) *queue {
	q := &queue{
		b: b, v: v, name: name, durable: durable, autoDelete: autoDelete, owner: owner, arguments: arguments,
		settings: newSettings(arguments, b.cfg.ConsumerTimeout), delivered: make(map[*delivery]struct{}),
	}
	q.due.run = q.touch
	q.expiry.run = func() { b.removeQueue(q) }
	q.consumerTimeout.run = q.timeOut
	v.queues[name] = q
	q.restartExpiry()
	return q
}

func (q *queue) where() string { return "queue '" + q.name + "' in vhost '" + q.v.name + "'" }

// touch schedules the queue to be served at the end of the update.
func (q *queue) touch() {
	if !q.dirty && !q.gone {
		q.dirty = true
		q.b.dirty = append(q.b.dirty, q)
	}
}

// restartExpiry restarts the time after which an unused queue is deleted.
func (q *queue) restartExpiry() {
	if q.expires < 0 {
		return
	}
	if len(q.consumers) > 0 {
		q.b.clock.unset(&q.expiry)
		return
	}
	q.b.clock.set(&q.expiry, q.b.now.Add(milliseconds(q.expires)))
}

// accept stores a message. It returns false if the queue is full and rejects publishes.
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

// put stores a message regardless of limits.
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

// head returns the list that holds the next message, or nil.
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

// serve delivers messages, then expires and drops the ones that must go.
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
		q.expire(q.overdue) // the new head
	}
	q.served = last
	q.expire(q.expired)
	q.dropHeads()
	if q.rejecting && q.below() {
		q.rejecting = false
	}
	if q.refused && q.hasRoom() {
		q.refused = false
		q.v.retryDeadLetters()
	}
	q.deadLetterPending()
	q.schedule()
}

// dropHeads enforces the length limit of a queue whose overflow behaviour is drop-head.
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

// list returns the list of a band, or the requeued messages for -1.
func (q *queue) list(i int) *list {
	if i < 0 {
		return &q.returns
	}
	return &q.bands[i].list
}

// purge drops the ready and delayed messages.
func (q *queue) purge() int {
	n := q.ready + len(q.delayed)
	q.returns, q.bands, q.delayed, q.ready, q.bytes = list{}, nil, nil, 0, 0
	q.touch()
	return n
}

// removeQueue deletes a queue and notifies its consumers.
func (b *Broker) removeQueue(q *queue) {
	if q.gone {
		return
	}
	q.gone = true
	delete(q.v.queues, q.name)
	delete(q.v.undelivered, q)
	for _, t := range []*timer{&q.due, &q.expiry, &q.consumerTimeout} {
		b.clock.unset(t)
	}
	slices.SortStableFunc(q.consumers, func(a, b *consumer) int { return strings.Compare(a.tag, b.tag) })
	for _, c := range q.consumers {
		c.notifyCancelled()
		delete(c.ch.consumers, c.tag)
	}
	q.consumers, q.active = nil, nil
	b.unbindAll(q.v, q.name, false)
}

// restart keeps the messages that survive a restart: all in a quorum queue, persistent ones in a classic queue.
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

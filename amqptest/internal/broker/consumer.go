package broker

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A consumer receives the messages of a queue.
type consumer struct {
	ch        *channel
	queue     *queue // nil for a direct reply-to consumer
	tag       string
	noAck     bool
	exclusive bool
	prefetch  int
	priority  int64
	timeout   time.Duration
	unsettled int
	yielding  bool // a single active consumer that is replaced by one of higher priority once its deliveries are settled
	timedOut  int  // timed-out deliveries that the client has not settled; the consumer receives nothing until then
}

func (ch *channel) basicConsume(m *codec.BasicConsume) *exception {
	if ch.consumers[m.Tag] != nil {
		return raise(notAllowed, "attempt to reuse consumer tag '%s'", m.Tag)
	}
	if m.Queue == replyName {
		return ch.consumeReplies(m)
	}
	if ch.b.replies[m.Queue] != nil {
		return raise(preconditionFailed, "only creator channel may consume from %s", ch.where(m.Queue))
	}
	q, e := ch.find(m.Queue)
	if e != nil {
		return e
	}
	known, kind := classicConsumerArguments, "rabbit_classic_queue"
	if q.quorum {
		known, kind = quorumConsumerArguments, "rabbit_quorum_queue"
	}
	if e := checkArguments(m.Arguments, consumerChecks, known, allConsumerArguments, q.where(), kind); e != nil {
		return e
	}
	if !q.quorum && (m.Exclusive && (len(q.consumers) > 0 || q.single) || len(q.consumers) > 0 && q.consumers[0].exclusive) {
		return raise(accessRefused, "%s in exclusive use", q.where())
	}
	tag := m.Tag
	if tag == "" {
		tag = "amq.ctag-" + unique()
	}
	c := &consumer{
		ch: ch, queue: q, tag: tag, noAck: m.NoAck, exclusive: m.Exclusive && !q.quorum, prefetch: ch.prefetch,
		priority: number(m.Arguments, "x-priority", 0), timeout: q.timeout,
	}
	if q.quorum {
		c.timeout = milliseconds(number(m.Arguments, "x-consumer-timeout", q.timeout.Milliseconds()))
		if c.prefetch == 0 || c.prefetch > maxPrefetch {
			c.prefetch = maxPrefetch
		}
	}
	c.inherit()
	ch.consumers[tag] = c
	ch.answer(m.NoWait, &codec.BasicConsumeOk{Tag: tag})
	q.add(c)
	return nil
}

// inherit takes over the unsettled deliveries of an earlier consumer with the same tag on the channel, as RabbitMQ
// does. In a quorum queue they count against the prefetch. In a classic queue they do not, but each settlement makes
// room for one more.
func (c *consumer) inherit() {
	for _, d := range c.ch.unacked.items {
		if !d.settled && d.queue == c.queue && d.consumer != nil && d.consumer.tag == c.tag {
			d.consumer = c
			if c.queue.quorum {
				c.unsettled++
			}
		}
	}
}

// unique returns the random part of a server-generated name.
func unique() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// cancel removes a consumer of the channel if the tag exists.
func (ch *channel) cancel(tag string) {
	if ch.reply != nil && ch.reply.tag == tag {
		ch.dropReplyTo()
		return
	}
	if c := ch.consumers[tag]; c != nil {
		delete(ch.consumers, tag)
		c.remove()
	}
}

// notifyCancelled sends basic.cancel if the client supports it.
func (c *consumer) notifyCancelled() {
	if c.ch.c.hasCapability("consumer_cancel_notify") {
		c.ch.send(&codec.BasicCancel{Tag: c.tag, NoWait: true})
	}
}

// add adds a consumer behind those of the same priority.
func (q *queue) add(c *consumer) {
	q.hadConsumers = true
	q.insert(c)
	q.restartExpiry()
	if q.single {
		q.elect()
	}
	q.touch()
}

func (q *queue) insert(c *consumer) {
	i, _ := slices.BinarySearchFunc(q.consumers, c.priority, func(o *consumer, p int64) int {
		if o.priority >= p {
			return -1
		}
		return 1
	})
	q.consumers = slices.Insert(q.consumers, i, c)
}

// remove removes a consumer from its queue. Its unsettled deliveries stay with the channel.
func (c *consumer) remove() {
	q := c.queue
	if q == nil || q.gone {
		return
	}
	q.consumers = slices.DeleteFunc(q.consumers, func(o *consumer) bool { return o == c })
	if q.active == c {
		q.active = nil
		q.elect()
	}
	q.restartExpiry()
	if q.autoDelete && len(q.consumers) == 0 {
		q.b.removeQueue(q)
		return
	}
	q.touch()
}

// elect chooses the single active consumer: the first one of the highest priority. A quorum queue replaces an active
// consumer of lower priority once its deliveries are settled.
func (q *queue) elect() {
	i := slices.IndexFunc(q.consumers, func(c *consumer) bool { return c.timedOut == 0 })
	if i < 0 || !q.single {
		return
	}
	first := q.consumers[i]
	switch {
	case q.active == nil:
		q.active = first
	case q.quorum && first.priority > q.active.priority:
		if q.active.unsettled > 0 {
			q.active.yielding = true
			return
		}
		q.active.yielding = false
		q.active = first
	}
	q.touch()
}

// nextConsumer returns the consumer of the next message, or nil. Consumers of the same priority take turns.
func (q *queue) nextConsumer() *consumer {
	if q.single {
		if q.active != nil && q.active.ready() {
			return q.active
		}
		return nil
	}
	for i, c := range q.consumers {
		if !c.ready() {
			continue
		}
		if len(q.consumers) > 1 {
			q.consumers = slices.Delete(q.consumers, i, i+1)
			q.insert(c)
		}
		return c
	}
	return nil
}

func (c *consumer) ready() bool {
	return !c.yielding && c.timedOut == 0 && (c.noAck || c.prefetch == 0 || c.unsettled < c.prefetch) && !c.ch.c.busy()
}

// find returns a queue that the connection may use. An empty name means the last declared queue.
func (ch *channel) find(name string) (*queue, *exception) {
	if name == "" {
		if name = ch.last; name == "" {
			return nil, raise(notFound, "no previously declared queue")
		}
	}
	q := ch.c.vhost.queues[name]
	if q == nil {
		return nil, ch.noQueue(name)
	}
	return q, ch.checkOwner(q)
}

func (ch *channel) checkOwner(q *queue) *exception {
	if q.owner == nil || q.owner == ch.c {
		return nil
	}
	return q.locked()
}

func (q *queue) locked() *exception {
	return raise(resourceLocked, "cannot obtain exclusive access to locked %s. It could be originally declared on another "+
		"connection or the exclusive property value does not match that of the original declaration.", q.where())
}

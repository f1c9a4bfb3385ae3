package broker

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A consumer gets the messages of a queue.
type consumer struct {
	ch        *channel
	queue     *queue // nil for the consumer of direct reply-to
	tag       string
	noAck     bool
	exclusive bool
	prefetch  int
	priority  int64
	timeout   time.Duration
	unsettled int
	leaving   bool // the single active consumer, once its deliveries are settled, makes room for a higher priority
	late      int  // deliveries that timed out and that the client has not settled yet: until then it gets no more
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
	c.adopt()
	ch.consumers[tag] = c
	ch.answer(m.NoWait, &codec.BasicConsumeOk{Tag: tag})
	q.add(c)
	return nil
}

// adopt takes over what an earlier consumer of the tag left unsettled on the channel: RabbitMQ goes by the tag. In a
// quorum queue it counts; in a classic one it does not, but each settlement makes room for one more.
func (c *consumer) adopt() {
	for _, d := range c.ch.unacked.items {
		if !d.settled && d.queue == c.queue && d.consumer != nil && d.consumer.tag == c.tag {
			d.consumer = c
			if c.queue.quorum {
				c.unsettled++
			}
		}
	}
}

// unique is the random part of a name that the broker gives.
func unique() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// cancel ends a consumer of the channel. There may be none of that tag.
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

// tellCancelled tells the client that its consumer has ended, if it knows what that means.
func (c *consumer) tellCancelled() {
	if c.ch.c.can("consumer_cancel_notify") {
		c.ch.send(&codec.BasicCancel{Tag: c.tag, NoWait: true})
	}
}

// add puts a consumer behind those of its priority.
func (q *queue) add(c *consumer) {
	q.hadConsumers = true
	q.insert(c)
	q.used()
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

// remove takes a consumer from its queue. What it has unsettled stays with the channel.
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
	q.used()
	if q.autoDelete && len(q.consumers) == 0 {
		q.b.removeQueue(q)
		return
	}
	q.touch()
}

// elect chooses the single active consumer: the first of the highest priority. A quorum queue replaces the active one
// for a higher priority, once that has nothing unsettled.
func (q *queue) elect() {
	i := slices.IndexFunc(q.consumers, func(c *consumer) bool { return c.late == 0 })
	if i < 0 || !q.single {
		return
	}
	first := q.consumers[i]
	switch {
	case q.active == nil:
		q.active = first
	case q.quorum && first.priority > q.active.priority:
		if q.active.unsettled > 0 {
			q.active.leaving = true
			return
		}
		q.active.leaving = false
		q.active = first
	}
	q.touch()
}

// nextConsumer returns who gets the next message, or nil. Consumers of a priority take turns.
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
	return !c.leaving && c.late == 0 && (c.noAck || c.prefetch == 0 || c.unsettled < c.prefetch) && !c.ch.c.busy()
}

// find returns a queue that the connection may use. An empty name is that of the queue declared last.
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

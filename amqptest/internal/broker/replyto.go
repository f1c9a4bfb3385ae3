package broker

import (
	"strings"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

const (
	replyName   = "amq.rabbitmq.reply-to"
	replyPrefix = replyName + "." // the prefix of generated names
)

// isReply reports whether a name may have been generated. A reply to a name that no longer exists counts as routed.
func isReply(name string) bool {
	rest, ok := strings.CutPrefix(name, replyPrefix)
	return ok && len(rest) == 45 && rest[22] == '.'
}

// A replyTo is the direct reply-to pseudo-queue of a channel. It stores nothing.
type replyTo struct {
	ch        *channel
	name, tag string
}

func (ch *channel) consumeReplies(m *codec.BasicConsume) *exception {
	switch {
	case !m.NoAck:
		return raise(preconditionFailed, "reply consumer cannot acknowledge")
	case ch.reply != nil:
		return raise(preconditionFailed, "reply consumer already set")
	}
	tag := m.Tag
	if tag == "" {
		tag = "amq.ctag-" + unique()
	}
	ch.reply = &replyTo{ch: ch, name: replyPrefix + unique() + "." + unique(), tag: tag}
	ch.b.replies[ch.reply.name] = ch.reply
	ch.answer(m.NoWait, &codec.BasicConsumeOk{Tag: tag})
	return nil
}

// declareReplies answers a declaration, which reports whether a reply-to name is in use. RabbitMQ crashes on an invalid
// name.
func (ch *channel) declareReplies(name string, noWait bool) *exception {
	switch {
	case name == replyName || ch.b.replies[name] != nil:
		ch.declared(name, 0, 1, noWait)
		return nil
	case isReply(name):
		return ch.noQueue(name)
	}
	return raise(internalError, "")
}

func (ch *channel) where(queue string) string {
	return "queue '" + queue + "' in vhost '" + ch.c.vhost.name + "'"
}

func (ch *channel) dropReplyTo() {
	if ch.reply != nil {
		delete(ch.b.replies, ch.reply.name)
		ch.reply = nil
	}
}

// deliverReply delivers a reply to the channel that waits for it. Without one, the reply is dropped silently.
func (b *Broker) deliverReply(name string, m *message) {
	r := b.replies[name]
	if r == nil {
		return
	}
	r.ch.tag++
	d := codec.BasicDeliver{Consumer: r.tag, Tag: r.ch.tag, Exchange: m.exchange, Key: m.key}
	r.ch.c.sendContent(r.ch.number, &d, m.raw, m.body)
}

package broker

import (
	"errors"
	"fmt"
	"slices"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// An outgoing message has been routed but not yet stored.
type outgoing struct {
	*message
	mandatory bool
	seq       uint64 // sequence number in confirm mode, otherwise 0
	queues    []*queue
	replies   []string // direct reply-to names
}

func (ch *channel) basicPublish(p *codec.BasicPublish, in content) *exception {
	if p.Immediate {
		return raise(notImplemented, "immediate=true")
	}
	b, v := ch.b, ch.c.vhost
	x, e := b.publishable(v, p.Exchange, in.size)
	if e != nil {
		return e
	}
	props, err := codec.ParseProperties(in.properties)
	if err != nil {
		return raise(internalError, "")
	}
	if props.ReplyTo == replyName {
		if ch.reply == nil {
			return raise(preconditionFailed, "fast reply consumer does not exist")
		}
		props.ReplyTo = ch.reply.name
	}
	m, e := newMessage(p.Exchange, p.Key, props, in.body)
	if e != nil {
		return e
	}
	if props.Has&codec.HasUserID != 0 && props.UserID != ch.c.user {
		return raise(preconditionFailed, "user_id property set to '%s' but authenticated user was '%s'", props.UserID, ch.c.user)
	}
	out := outgoing{message: m, mandatory: p.Mandatory, queues: v.route(x, m)}
	if x.name == "" {
		out.replies = slices.DeleteFunc(slices.Clone(m.keys), func(k string) bool { return !isReply(k) })
	}
	if ch.confirms.selected {
		ch.confirms.published++
		out.seq = ch.confirms.published
	}
	b.record(m)
	if ch.tx != nil {
		ch.tx.publishings = append(ch.tx.publishings, out)
		return nil
	}
	ch.distribute(out)
	return nil
}

// publishable returns the exchange if a message of this size can be published to it.
func (b *Broker) publishable(v *vhost, name string, size uint64) (*exchange, *exception) {
	if most := uint64(b.cfg.MaxMessageSize); size > most {
		return nil, raise(preconditionFailed, "message size %d is larger than configured max size %d", size, most)
	}
	x := v.exchanges[name]
	switch {
	case x == nil:
		return nil, v.noExchange(name)
	case x.internal:
		return nil, raise(accessRefused, "cannot publish to internal exchange '%s' in vhost '%s'", x.name, v.name)
	}
	return x, nil
}

// ErrNacked reports that a full queue rejected the message.
var ErrNacked = errors.New("amqptest: a queue rejected the message")

// An Error is the exception that a publish caused.
type Error struct {
	Code int
	Text string
}

func (e *Error) Error() string {
	return fmt.Sprintf("amqptest: publish refused: %d %s", e.Code, e.Text)
}

// Publish publishes a message without a connection and reports whether it was routed to a queue.
func (b *Broker) Publish(vhost, exchange, key string, p *codec.Properties, body []byte) (routed bool, err error) {
	b.update(func() {
		if !b.running {
			err = ErrClosed
			return
		}
		v := b.vhosts[vhost]
		x, e := b.publishable(v, exchange, uint64(len(body)))
		var m *message
		if e == nil {
			m, e = newMessage(exchange, key, p, body)
		}
		if e != nil {
			err = &Error{Code: e.code, Text: e.reply()}
			return
		}
		b.record(m)
		for _, q := range v.route(x, m) {
			routed = true
			if !q.accept(m) {
				err = ErrNacked
			}
		}
	})
	return routed, err
}

// distribute stores a message in its queues, returns it if it was unroutable, and confirms it. It returns false if a
// queue rejected the message.
func (ch *channel) distribute(p outgoing) bool {
	if p.seq > 0 && ch.b.faults.nackNext > 0 {
		ch.b.faults.nackNext--
		ch.confirm(p.seq, false)
		return false
	}
	if p.mandatory && len(p.queues)+len(p.replies) == 0 {
		m := codec.BasicReturn{Code: noRoute, Text: codeNames[noRoute], Exchange: p.exchange, Key: p.key}
		ch.c.sendContent(ch.number, &m, p.raw, p.body)
	}
	ok := true
	for _, q := range p.queues {
		ok = q.accept(p.message) && ok
	}
	for _, name := range p.replies {
		ch.b.deliverReply(name, p.message)
	}
	if p.seq > 0 {
		ch.confirm(p.seq, ok)
		if len(p.queues) == 0 { // RabbitMQ delays only confirms that wait for queues
			ch.sendConfirms()
		}
	}
	return ok
}

// maxLogBytes limits the bodies in the log. A single larger body is kept.
const maxLogBytes = 64 << 20

// record appends a message to the log and drops the oldest ones beyond the limits.
func (b *Broker) record(m *message) {
	if b.cfg.PublishedLimit <= 0 {
		return
	}
	b.log = append(b.log, m)
	b.logBytes += len(m.body)
	for len(b.log) > b.cfg.PublishedLimit || len(b.log) > 1 && b.logBytes > maxLogBytes {
		b.logBytes -= len(b.log[0].body)
		b.log[0] = nil
		b.log = b.log[1:]
	}
}

// A transaction holds the publishes and settlements of a channel until tx.commit.
type transaction struct {
	publishings []outgoing
	settlements []settlement
}

type settlement struct {
	deliveries []*delivery
	outcome    outcome
}

func (t *transaction) settle(ds []*delivery, o outcome) {
	t.settlements = append(t.settlements, settlement{ds, o})
}

// held returns the unsettled deliveries of the channel, including those that the transaction would settle.
func (t *transaction) held(rest []*delivery) []*delivery {
	all := slices.Clone(rest)
	for _, s := range t.settlements {
		all = append(all, s.deliveries...)
	}
	slices.SortFunc(all, func(a, b *delivery) int { return int(a.tag) - int(b.tag) })
	return all
}

func (ch *channel) transact(m codec.Method) *exception {
	if _, ok := m.(*codec.TxSelect); ok {
		if ch.confirms.selected {
			return raise(preconditionFailed, "cannot switch from confirm to tx mode")
		}
		if ch.tx == nil {
			ch.tx = new(transaction)
		}
		ch.send(new(codec.TxSelectOk))
		return nil
	}
	if ch.tx == nil {
		return raise(preconditionFailed, "channel is not transactional")
	}
	t := ch.tx
	if _, ok := m.(*codec.TxRollback); ok {
		ch.unacked.items = t.held(ch.unacked.all())
		ch.tx = new(transaction)
		ch.send(new(codec.TxRollbackOk))
		return nil
	}
	ok := true
	for _, p := range t.publishings {
		if i := slices.IndexFunc(p.queues, func(q *queue) bool { return q.gone }); i >= 0 {
			return raise(resourceError, "failed to deliver message: {not_found,{resource,%s,queue,%s}}",
				codec.Erlang([]byte(ch.c.vhost.name)), codec.Erlang([]byte(p.queues[i].name)))
		}
		ok = ch.distribute(p) && ok
	}
	ch.tx = new(transaction)
	for _, s := range t.settlements {
		for _, d := range s.deliveries {
			d.settle(s.outcome)
		}
	}
	if !ok {
		return raise(preconditionFailed, "partial tx completion")
	}
	ch.send(new(codec.TxCommitOk))
	return nil
}

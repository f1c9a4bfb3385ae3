package broker

import (
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// The exchange types.
const (
	kindDirect  = "direct"
	kindFanout  = "fanout"
	kindTopic   = "topic"
	kindHeaders = "headers"
)

// An exchange routes messages by its bindings.
type exchange struct {
	name, kind                    string
	durable, autoDelete, internal bool
	arguments                     codec.Table
	bindings                      []binding
}

func (ch *channel) exchangeDeclare(m *codec.ExchangeDeclare) *exception {
	v, name := ch.c.vhost, plain(m.Exchange)
	x := v.exchanges[name]
	if m.Passive {
		switch {
		case name == "":
			return errDefaultExchange()
		case x == nil:
			return ch.c.vhost.noExchange(name)
		}
		ch.answer(m.NoWait, new(codec.ExchangeDeclareOk))
		return nil
	}
	switch m.Type {
	case kindDirect, kindFanout, kindTopic, kindHeaders:
	case "x-local-random", "x-modulus-hash":
		return unsupported("exchange type '%s' is not implemented", m.Type)
	case "":
		return raise(preconditionFailed, "invalid exchange type ''")
	default:
		return raise(preconditionFailed, "unknown exchange type '%s'", m.Type)
	}
	if name == "" {
		return errDefaultExchange()
	}
	if x == nil {
		if strings.HasPrefix(name, "amq.") {
			return raise(accessRefused, "exchange name '%s' contains reserved prefix 'amq.*'", name)
		}
		if a, ok := m.Arguments.Get("alternate-exchange"); ok {
			if _, ok := a.(string); !ok {
				return raise(preconditionFailed, "invalid type '%s' for arg 'alternate-exchange' in exchange '%s' in vhost '%s'",
					codec.TypeName(a), name, v.name)
			}
		}
		v.exchanges[name] = &exchange{
			name: name, kind: m.Type, durable: m.Durable, autoDelete: m.AutoDelete, internal: m.Internal, arguments: m.Arguments,
		}
		v.retryDeadLetters()
	} else if e := x.differs(m, v.name); e != nil {
		return e
	}
	ch.answer(m.NoWait, new(codec.ExchangeDeclareOk))
	return nil
}

func (x *exchange) differs(m *codec.ExchangeDeclare, vhost string) *exception {
	where := "exchange '" + x.name + "' in vhost '" + vhost + "'"
	for _, f := range []struct {
		name      string
		has, want any
	}{
		{"type", x.kind, m.Type},
		{"durable", x.durable, m.Durable},
		{"auto_delete", x.autoDelete, m.AutoDelete},
		{"internal", x.internal, m.Internal},
	} {
		if f.has != f.want {
			return raise(preconditionFailed, "inequivalent arg '%s' for %s: received '%v' but current is '%v'",
				f.name, where, f.want, f.has)
		}
	}
	return inequivalent(where, "alternate-exchange", x.arguments, m.Arguments)
}

func (ch *channel) exchangeDelete(m *codec.ExchangeDelete) *exception {
	v, name := ch.c.vhost, plain(m.Exchange)
	switch {
	case name == "":
		return errDefaultExchange()
	case strings.HasPrefix(name, "amq."):
		return raise(accessRefused, "deletion of system exchange '%s' in vhost '%s' not allowed", name, v.name)
	}
	if x := v.exchanges[name]; x != nil {
		if m.IfUnused && len(x.bindings) > 0 {
			return raise(preconditionFailed, "exchange '%s' in vhost '%s' in use", name, v.name)
		}
		ch.b.removeExchange(v, x)
	}
	ch.answer(m.NoWait, new(codec.ExchangeDeleteOk))
	return nil
}

func (b *Broker) removeExchange(v *vhost, x *exchange) {
	if v.exchanges[x.name] != x {
		return
	}
	delete(v.exchanges, x.name)
	x.bindings = nil
	b.unbindAll(v, x.name, true)
}

// unbindAll removes the bindings to a deleted queue or exchange. Auto-delete exchanges are deleted with their last
// binding.
func (b *Broker) unbindAll(v *vhost, destination string, isExchange bool) {
	for _, x := range v.exchanges {
		had := len(x.bindings)
		x.bindings = slices.DeleteFunc(x.bindings, func(bd binding) bool {
			return bd.destination == destination && bd.exchange == isExchange
		})
		if had > 0 && len(x.bindings) == 0 && x.autoDelete {
			b.removeExchange(v, x)
		}
	}
}

func errDefaultExchange() *exception {
	return raise(accessRefused, "operation not permitted on the default exchange")
}

func (v *vhost) noExchange(name string) *exception {
	return raise(notFound, "no exchange '%s' in vhost '%s'", name, v.name)
}

func (ch *channel) noQueue(name string) *exception {
	return raise(notFound, "no queue '%s' in vhost '%s'", name, ch.c.vhost.name)
}

// plain removes line breaks from a name, as RabbitMQ does.
func plain(name string) string { return lineEnds.Replace(name) }

var lineEnds = strings.NewReplacer("\r", "", "\n", "")

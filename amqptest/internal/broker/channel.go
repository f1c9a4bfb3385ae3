package broker

import (
	"errors"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A channel executes the methods of one AMQP channel.
type channel struct {
	c       *conn
	b       *Broker
	number  uint16
	opened  bool
	closing bool // channel.close was sent; everything except its answer is ignored

	carrier   codec.Method // the method whose content is being received: basic.publish, unless the client sends a method reserved for brokers
	carrierID codec.ID
	content   content

	last      string // the last declared queue, which an empty queue name refers to
	prefetch  int    // of future consumers
	consumers map[string]*consumer
	unacked   unacked
	tag       uint64 // of the last delivery
	confirms  confirms
	tx        *transaction
	reply     *replyTo
}

// content is a partly received message.
type content struct {
	headed     bool
	size       uint64
	properties []byte
	body       []byte
	got        uint64
}

func newChannel(c *conn, number uint16) *channel {
	return &channel{c: c, b: c.b, number: number, consumers: make(map[string]*consumer)}
}

// send sends a method after the confirms of earlier publishes.
func (ch *channel) send(m codec.Method) {
	ch.sendConfirms()
	ch.c.send(ch.number, m)
}

// answer sends the reply to a method unless the client set no-wait.
func (ch *channel) answer(noWait bool, m codec.Method) {
	if !noWait {
		ch.send(m)
	}
}

// release requeues the channel's unsettled deliveries and removes its consumers.
func (ch *channel) release() {
	ch.dropReplyTo()
	for tag := range ch.consumers {
		ch.consumers[tag].remove()
	}
	clear(ch.consumers)
	ch.b.faults.dropChannel(ch)
	held := ch.unacked.all()
	if ch.tx != nil {
		held = ch.tx.held(held)
		ch.tx = nil
	}
	for _, d := range held {
		d.settle(failed)
	}
}

// fail closes the channel for any exception, also for one that normally closes the connection.
func (ch *channel) fail(id codec.ID, e *exception) {
	ch.release()
	ch.closing = true
	ch.send(e.channelClose(id))
}

// frame handles a frame. id is the method of a method frame. The order of frames is checked even after the broker
// closed the channel.
func (ch *channel) frame(f codec.Frame, id codec.ID) {
	switch {
	case ch.carrier == nil && f.Type == codec.FrameMethod:
		ch.methodFrame(f, id)
	case ch.carrier == nil:
		ch.unexpected("expected method frame, got non method frame instead")
	case !ch.content.headed && f.Type == codec.FrameHeader:
		ch.headerFrame(f)
	case !ch.content.headed:
		ch.unexpected("expected content header for class 60, got non content header frame instead")
	case f.Type == codec.FrameBody:
		ch.bodyFrame(f)
	default:
		ch.unexpected("expected content body, got non content body frame instead")
	}
}

// unexpected closes the connection because of a frame in the wrong order.
func (ch *channel) unexpected(text string) { ch.protocolError(unexpectedFrame, "%s", text) }

// protocolError closes the connection, naming the method whose content is being received, if any.
func (ch *channel) protocolError(code int, format string, args ...any) {
	id := ch.carrierID
	if ch.carrier == nil {
		id = 0
	}
	ch.c.fail(0, id, raise(code, format, args...))
}

func (ch *channel) methodFrame(f codec.Frame, id codec.ID) {
	_, m, err := codec.Parse(f.Payload)
	switch {
	case errors.Is(err, codec.ErrTable):
		ch.c.cutSoon() // as for an unknown method
	case errors.Is(err, codec.ErrUTF8):
		ch.c.fail(0, 0, errUTF8())
	case err != nil:
		ch.c.fail(0, id, raise(frameError, "cannot decode %s", codec.Octets(f.Payload[4:])))
	case id.HasContent():
		ch.carrier, ch.carrierID, ch.content = m, id, content{}
	default:
		ch.execute(m, content{})
	}
}

// execute executes a method that was received completely.
func (ch *channel) execute(m codec.Method, in content) {
	var e *exception
	p, isPublish := m.(*codec.BasicPublish)
	switch {
	case ch.closing:
		e = ch.whileClosing(m)
	case isPublish && ch.opened:
		e = ch.basicPublish(p, in)
	default:
		e = ch.method(m)
	}
	if e != nil {
		ch.c.fail(ch.number, m.ID(), e)
	}
}

// whileClosing handles methods received after channel.close was sent.
func (ch *channel) whileClosing(m codec.Method) *exception {
	switch m.(type) {
	case *codec.ChannelCloseOk:
		delete(ch.c.channels, ch.number)
	case *codec.ChannelClose:
		ch.send(new(codec.ChannelCloseOk))
	case *codec.ChannelOpen:
		return errSecondOpen()
	}
	return nil
}

func errSecondOpen() *exception { return raise(channelError, "second 'channel.open' seen") }

func (ch *channel) headerFrame(f codec.Frame) {
	h := codec.ParseHeader(f.Payload)
	switch {
	case h.Weight != 0:
		ch.unexpected("expected content header for class 60, got non content header frame instead")
		return
	case h.Class != codec.ClassBasic:
		ch.protocolError(unexpectedFrame, "expected content header for class 60, got one for class %d instead", h.Class)
		return
	case h.Size > codec.MaxContent:
		ch.protocolError(frameError, "content body size %d exceeds maximum allowed size %d", h.Size, codec.MaxContent)
		return
	}
	ch.content = content{headed: true, size: h.Size, properties: append([]byte(nil), h.Properties...)}
	ch.complete()
}

func (ch *channel) bodyFrame(f codec.Frame) {
	p := &ch.content
	p.got += uint64(len(f.Payload))
	if p.got > p.size {
		ch.protocolError(frameError, "content body frame exceeds remaining content size")
		return
	}
	if p.got <= uint64(ch.b.cfg.MaxMessageSize) { // only the size of a body beyond the limit matters
		if p.body == nil {
			p.body = make([]byte, 0, min(p.size, 2*uint64(len(f.Payload))))
		}
		p.body = append(p.body, f.Payload...)
	}
	ch.complete()
}

// complete executes a method if its content is complete.
func (ch *channel) complete() {
	if ch.content.got < ch.content.size {
		return
	}
	m, in := ch.carrier, ch.content
	ch.carrier, ch.content = nil, content{}
	ch.execute(m, in)
}

// method executes a method. An exception closes the channel or the connection.
func (ch *channel) method(m codec.Method) *exception {
	if !ch.opened {
		if _, ok := m.(*codec.ChannelOpen); !ok {
			return raise(channelError, "expected 'channel.open'")
		}
		ch.opened = true
		ch.send(new(codec.ChannelOpenOk))
		return nil
	}
	switch m := m.(type) {
	case *codec.ChannelOpen:
		return errSecondOpen()
	case *codec.ChannelClose:
		ch.release()
		delete(ch.c.channels, ch.number)
		ch.send(new(codec.ChannelCloseOk))
	case *codec.ChannelFlow:
		if !m.Active {
			return raise(notImplemented, "active=false")
		}
		ch.send(&codec.ChannelFlowOk{Active: true})
	case *codec.AccessRequest:
		ch.send(&codec.AccessRequestOk{Ticket: 1})
	case *codec.ConfirmSelect:
		if ch.tx != nil {
			return raise(preconditionFailed, "cannot switch from tx to confirm mode")
		}
		ch.confirms.selected = true
		ch.answer(m.NoWait, new(codec.ConfirmSelectOk))
	case *codec.TxSelect, *codec.TxCommit, *codec.TxRollback:
		return ch.transact(m)
	case *codec.ExchangeDeclare:
		return ch.exchangeDeclare(m)
	case *codec.ExchangeDelete:
		return ch.exchangeDelete(m)
	case *codec.ExchangeBind:
		e := ch.bind(true, binding{source: m.Source, exchange: true, destination: m.Destination, key: m.Key, arguments: m.Arguments})
		return ch.done(e, m.NoWait, new(codec.ExchangeBindOk))
	case *codec.ExchangeUnbind:
		e := ch.bind(false, binding{source: m.Source, exchange: true, destination: m.Destination, key: m.Key, arguments: m.Arguments})
		return ch.done(e, m.NoWait, new(codec.ExchangeUnbindOk))
	case *codec.QueueDeclare:
		return ch.queueDeclare(m)
	case *codec.QueueBind:
		e := ch.bindQueue(true, m.Queue, m.Exchange, m.Key, m.Arguments)
		return ch.done(e, m.NoWait, new(codec.QueueBindOk))
	case *codec.QueueUnbind:
		e := ch.bindQueue(false, m.Queue, m.Exchange, m.Key, m.Arguments)
		return ch.done(e, false, new(codec.QueueUnbindOk))
	case *codec.QueuePurge:
		return ch.queuePurge(m)
	case *codec.QueueDelete:
		return ch.queueDelete(m)
	default:
		return ch.basic(m)
	}
	return nil
}

// done answers a method unless it failed.
func (ch *channel) done(e *exception, noWait bool, m codec.Method) *exception {
	if e == nil {
		ch.answer(noWait, m)
	}
	return e
}

// basic executes the methods of class basic.
func (ch *channel) basic(m codec.Method) *exception {
	switch m := m.(type) {
	case *codec.BasicQos:
		if m.Size != 0 {
			return raise(notImplemented, "prefetch_size!=0 (%d)", m.Size)
		}
		ch.prefetch = int(m.Count) // RabbitMQ 4.3 applies both values of global per consumer
		ch.send(new(codec.BasicQosOk))
	case *codec.BasicConsume:
		return ch.basicConsume(m)
	case *codec.BasicCancel:
		ch.cancel(m.Tag)
		ch.answer(m.NoWait, &codec.BasicCancelOk{Tag: m.Tag})
	case *codec.BasicCancelOk: // RabbitMQ treats it as basic.cancel, and fails if there is no such consumer
		if ch.consumers[m.Tag] == nil {
			return raise(internalError, "")
		}
		ch.cancel(m.Tag)
	case *codec.BasicGet:
		return ch.basicGet(m)
	case *codec.BasicAck:
		return ch.settle(m.Tag, m.Multiple, acked)
	case *codec.BasicNack:
		if m.Requeue {
			return ch.settle(m.Tag, m.Multiple, returned)
		}
		return ch.settle(m.Tag, m.Multiple, nacked)
	case *codec.BasicReject:
		if m.Requeue {
			return ch.settle(m.Tag, false, failed)
		}
		return ch.settle(m.Tag, false, rejected)
	case *codec.BasicRecover:
		if !m.Requeue {
			return raise(notImplemented, "requeue=false")
		}
		ch.recover()
		ch.send(new(codec.BasicRecoverOk))
	case *codec.BasicRecoverAsync:
		if !m.Requeue {
			return raise(notImplemented, "requeue=false")
		}
		ch.recover()
	default:
		return raise(commandInvalid, "unimplemented method")
	}
	return nil
}

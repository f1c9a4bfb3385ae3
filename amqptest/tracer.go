package amqptest

import "sync"

// A tracer turns the frames of one direction of a link into events. It belongs to the pump of that direction.
type tracer struct {
	from     Direction
	link     Link // what the client's frames have shown
	channels *channels
	contents map[uint16]*content
	events   []Event // of the frame at hand
}

// A content is the message that a channel is in the middle of: the method has come, the rest of it follows.
type content struct {
	event   Event
	header  bool // has come
	missing uint64
}

// channels are what the two directions of a link must know of each other.
type channels struct {
	mu       sync.Mutex
	byNumber map[uint16]*channel
}

type channel struct {
	confirms    bool
	published   uint64 // since confirm.select
	unconfirmed ledger
	unsettled   ledger
}

// get is called with c.mu held.
func (c *channels) get(number uint16) *channel {
	ch := c.byNumber[number]
	if ch == nil {
		ch = &channel{}
		c.byNumber[number] = ch
	}
	return ch
}

// frame returns what happened with this frame, until the next call. The payload of a body frame is not needed, only
// its size.
func (t *tracer) frame(f Frame, size int64) []Event {
	t.events = t.events[:0]
	c := t.contents[f.Channel]
	switch {
	case f.Type == FrameMethod && len(f.Payload) >= 4:
		delete(t.contents, f.Channel)
		t.channels.mu.Lock()
		defer t.channels.mu.Unlock()
		if t.from == FromClient {
			t.fromClient(f)
		} else {
			t.fromBroker(f)
		}
	case f.Type == FrameHeader && c != nil && !c.header:
		var ok bool
		if c.missing, c.event.MessageID, ok = contentHeader(f.Payload); !ok {
			delete(t.contents, f.Channel)
			return nil
		}
		c.header = true
		t.enter(c.event)
		t.completed(f.Channel, c)
	case f.Type == FrameBody && c != nil && c.header:
		c.missing -= min(c.missing, uint64(size-frameHeader-1))
		t.completed(f.Channel, c)
	}
	return t.events
}

// amidContent tells whether the message of a channel is not complete.
func (t *tracer) amidContent(channel uint16) bool { return t.contents[channel] != nil }

// enter makes a message known before any of it can have arrived, so that its settlement cannot come first.
func (t *tracer) enter(e Event) {
	t.channels.mu.Lock()
	defer t.channels.mu.Unlock()
	switch ch := t.channels.get(e.Channel); {
	case e.Kind == Published && e.Tag > 0:
		ch.unconfirmed.add(e.Tag, e.MessageID)
	case e.Kind == Delivered:
		ch.unsettled.add(e.Tag, e.MessageID)
	}
}

func (t *tracer) completed(channel uint16, c *content) {
	if c.missing == 0 {
		t.events = append(t.events, c.event)
		delete(t.contents, channel)
	}
}

func (t *tracer) fromClient(f Frame) {
	e, a := Event{From: FromClient, Channel: f.Channel}, f.arguments()
	switch f.id() {
	case connectionStartOk:
		t.link.Name = lookup(a.longString(), "connection_name")
	case connectionClose:
		t.closed(ConnectionClosed, e, a)
	case channelOpen:
		delete(t.channels.byNumber, f.Channel) // nothing is left of an earlier one of this number
		t.happened(ChannelOpened, e)
	case channelClose:
		t.closed(ChannelClosed, e, a)
	case confirmSelect:
		t.channels.get(f.Channel).confirms = true
		t.link.Publishes = true
	case basicPublish:
		a.short()
		e.Exchange, e.Key = a.shortString(), a.shortString()
		if ch := t.channels.get(f.Channel); ch.confirms {
			ch.published++
			e.Tag = ch.published
		}
		t.begins(Published, e)
		t.link.Publishes = true
	case basicConsume:
		a.short()
		e.Queue, e.ConsumerTag = a.shortString(), a.shortString()
		t.happened(Subscribed, e)
		t.link.Consumes = true
	case basicGet:
		t.link.Consumes = true
	case basicCancel:
		e.ConsumerTag = a.shortString()
		t.happened(Cancelled, e)
	case basicAck, basicNack, basicReject:
		t.settled(f, e)
	}
}

func (t *tracer) fromBroker(f Frame) {
	e, a := Event{From: FromBroker, Channel: f.Channel}, f.arguments()
	switch f.id() {
	case connectionOpenOk:
		t.happened(ConnectionOpened, e)
	case connectionClose:
		t.closed(ConnectionClosed, e, a)
	case connectionBlocked:
		e.Text = a.shortString()
		t.happened(Blocked, e)
	case connectionUnblocked:
		t.happened(Unblocked, e)
	case channelClose:
		t.closed(ChannelClosed, e, a)
	case basicCancel:
		e.ConsumerTag = a.shortString()
		t.happened(Cancelled, e)
	case basicReturn:
		e.Code, e.Text = int(a.short()), a.shortString()
		e.Exchange, e.Key = a.shortString(), a.shortString()
		t.begins(Returned, e)
	case basicDeliver:
		e.ConsumerTag = a.shortString()
		t.delivered(e, a)
	case basicGetOk:
		t.delivered(e, a)
	case basicAck, basicNack:
		t.settled(f, e)
	}
}

func (t *tracer) happened(k Kind, e Event) {
	e.Kind = k
	t.events = append(t.events, e)
}

func (t *tracer) closed(k Kind, e Event, a arguments) {
	e.Code, e.Text = int(a.short()), a.shortString()
	t.happened(k, e)
}

// begins is called for a method that content follows. The event is complete when that is.
func (t *tracer) begins(k Kind, e Event) {
	e.Kind = k
	t.contents[e.Channel] = &content{event: e}
}

func (t *tracer) delivered(e Event, a arguments) {
	e.Tag = a.longlong()
	e.Redelivered = a.octet()&1 != 0
	e.Exchange, e.Key = a.shortString(), a.shortString()
	t.begins(Delivered, e)
}

// settled is called for basic.ack, basic.nack and basic.reject: confirms or settlements.
func (t *tracer) settled(f Frame, e Event) {
	var multiple bool
	e.Kind, e.Tag, multiple, e.Requeue = settlement(f, t.from)
	e.Multiple = multiple
	ch := t.channels.get(f.Channel)
	open := &ch.unsettled
	if t.from == FromBroker {
		open = &ch.unconfirmed
	}
	if !open.take(e.Tag, multiple, func(tag uint64, id string) {
		e.Tag, e.MessageID = tag, id
		t.events = append(t.events, e)
	}) {
		e.UnknownTag = true
		t.events = append(t.events, e)
	}
}

// withheld returns the event for a confirm that does not go on.
func (t *tracer) withheld(f Frame) Event {
	e := Event{Kind: ConfirmHeld, From: t.from, Channel: f.Channel}
	_, e.Tag, e.Multiple, _ = settlement(f, t.from)
	t.channels.mu.Lock()
	defer t.channels.mu.Unlock()
	e.MessageID = t.channels.get(f.Channel).unconfirmed.ids[e.Tag]
	return e
}

// settlement reads basic.ack, basic.nack or basic.reject.
func settlement(f Frame, from Direction) (k Kind, tag uint64, multiple, requeue bool) {
	a := f.arguments()
	tag = a.longlong()
	flags := a.octet()
	switch id := f.id(); {
	case id == basicReject:
		return Rejected, tag, false, flags&1 != 0
	case id == basicAck && from == FromClient:
		return Acked, tag, flags&1 != 0, false
	case id == basicAck:
		return Confirmed, tag, flags&1 != 0, false
	case from == FromClient:
		return DeliveryNacked, tag, flags&1 != 0, flags&2 != 0
	}
	return Nacked, tag, flags&1 != 0, false
}

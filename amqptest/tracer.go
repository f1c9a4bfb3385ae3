package amqptest

import "sync"

// A tracer turns the frames of one direction of a link into events. The pump of that direction owns it.
type tracer struct {
	from     Direction
	link     Link // derived from the client's frames
	channels *channels
	contents map[uint16]*content
	events   []Event // of the current frame
}

// A content is an incomplete message on a channel, after its method frame.
type content struct {
	event   Event
	header  bool // was received
	missing uint64
}

// channels is the state shared by the two directions of a link.
type channels struct {
	mu       sync.Mutex
	byNumber map[uint16]*channel
}

type channel struct {
	confirms    bool
	published   uint64 // since confirm.select
	unconfirmed outstanding
	unsettled   outstanding
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

// frame returns the events of a frame, valid until the next call. It needs only the size of a body frame, not its
// payload.
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
		t.register(c.event)
		t.completed(f.Channel, c)
	case f.Type == FrameBody && c != nil && c.header:
		c.missing -= min(c.missing, uint64(size-frameHeader-1))
		t.completed(f.Channel, c)
	}
	return t.events
}

// inContent reports whether a message on the channel is incomplete.
func (t *tracer) inContent(channel uint16) bool { return t.contents[channel] != nil }

// register records a message before any of it is forwarded, so that its settlement cannot arrive first.
func (t *tracer) register(e Event) {
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
		delete(t.channels.byNumber, f.Channel) // drop the state of an earlier channel with this number
		t.add(ChannelOpened, e)
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
		t.startContent(Published, e)
		t.link.Publishes = true
	case basicConsume:
		a.short()
		e.Queue, e.ConsumerTag = a.shortString(), a.shortString()
		t.add(Subscribed, e)
		t.link.Consumes = true
	case basicGet:
		t.link.Consumes = true
	case basicCancel:
		e.ConsumerTag = a.shortString()
		t.add(Cancelled, e)
	case basicAck, basicNack, basicReject:
		t.settled(f, e)
	}
}

func (t *tracer) fromBroker(f Frame) {
	e, a := Event{From: FromBroker, Channel: f.Channel}, f.arguments()
	switch f.id() {
	case connectionOpenOk:
		t.add(ConnectionOpened, e)
	case connectionClose:
		t.closed(ConnectionClosed, e, a)
	case connectionBlocked:
		e.Text = a.shortString()
		t.add(Blocked, e)
	case connectionUnblocked:
		t.add(Unblocked, e)
	case channelClose:
		t.closed(ChannelClosed, e, a)
	case basicCancel:
		e.ConsumerTag = a.shortString()
		t.add(Cancelled, e)
	case basicReturn:
		e.Code, e.Text = int(a.short()), a.shortString()
		e.Exchange, e.Key = a.shortString(), a.shortString()
		t.startContent(Returned, e)
	case basicDeliver:
		e.ConsumerTag = a.shortString()
		t.delivered(e, a)
	case basicGetOk:
		t.delivered(e, a)
	case basicAck, basicNack:
		t.settled(f, e)
	}
}

func (t *tracer) add(k Kind, e Event) {
	e.Kind = k
	t.events = append(t.events, e)
}

func (t *tracer) closed(k Kind, e Event, a arguments) {
	e.Code, e.Text = int(a.short()), a.shortString()
	t.add(k, e)
}

// startContent records a method that is followed by content. The event is complete with the content.
func (t *tracer) startContent(k Kind, e Event) {
	e.Kind = k
	t.contents[e.Channel] = &content{event: e}
}

func (t *tracer) delivered(e Event, a arguments) {
	e.Tag = a.longlong()
	e.Redelivered = a.octet()&1 != 0
	e.Exchange, e.Key = a.shortString(), a.shortString()
	t.startContent(Delivered, e)
}

// settled handles basic.ack, basic.nack and basic.reject: confirms or settlements.
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

// heldConfirm returns the event of a delayed or dropped confirm.
func (t *tracer) heldConfirm(f Frame) Event {
	e := Event{Kind: ConfirmHeld, From: t.from, Channel: f.Channel}
	_, e.Tag, e.Multiple, _ = settlement(f, t.from)
	t.channels.mu.Lock()
	defer t.channels.mu.Unlock()
	e.MessageID = t.channels.get(f.Channel).unconfirmed.ids[e.Tag]
	return e
}

// settlement decodes basic.ack, basic.nack or basic.reject.
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

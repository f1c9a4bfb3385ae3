package amqptest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A record collects events.
type record struct {
	mu     sync.Mutex
	events []Event
}

func (r *record) observe(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// line formats the fields that are not zero, except the time.
func line(e Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", e.Kind)
	add := func(name string, value any) {
		if s := fmt.Sprint(value); s != "" && s != "0" && s != "false" {
			fmt.Fprintf(&b, " %s=%s", name, s)
		}
	}
	add("from", map[Direction]string{FromClient: "client", FromBroker: "broker"}[e.From])
	add("name", e.Name)
	add("ch", e.Channel)
	add("tag", e.Tag)
	add("multiple", e.Multiple)
	add("stray", e.UnknownTag)
	add("requeue", e.Requeue)
	add("redelivered", e.Redelivered)
	add("id", e.MessageID)
	add("queue", e.Queue)
	add("consumer", e.ConsumerTag)
	add("exchange", e.Exchange)
	add("key", e.Key)
	add("code", e.Code)
	add("text", e.Text)
	return b.String()
}

// expect compares the events.
func (r *record) expect(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var got []string
	for _, e := range r.events {
		got = append(got, line(e))
	}
	if got, want := strings.Join(got, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("events:\n%s\nwant:\n%s", got, want)
	}
	r.events = nil
}

// startOk is the login of a client with that connection_name, in a table with other entries.
func startOk(name string) Frame {
	entry := func(key string, kind byte, value []byte) []byte {
		return append(append([]byte{byte(len(key))}, key...), append([]byte{kind}, value...)...)
	}
	long := func(s []byte) []byte { return append([]byte{0, 0, 0, byte(len(s))}, s...) }
	var table []byte
	table = append(table, entry("product", 'S', long([]byte("x")))...)
	table = append(table, entry("capabilities", 'F', long(entry("connection_name", 'S', long([]byte("no")))))...)
	table = append(table, entry("number", 'd', make([]byte, 8))...)
	table = append(table, entry("connection_name", 'S', long([]byte(name)))...)
	return MethodFrame(0, 10, 11, table, "PLAIN", []byte("\x00u\x00p"), "en_US")
}

// contentFrames returns the header and body of a message, with most of the properties that precede the id.
func contentFrames(channel uint16, id, body string) []Frame {
	flags := uint16(1<<15 | 1<<13 | 1<<12 | 1<<11 | 1<<8 | 1<<7 | 1<<6)
	header := MethodFrame(channel, 60, 0, uint64(len(body)), flags, "text/plain", []byte("\x01at\x01"), uint8(2), uint8(1), "60000", id, uint64(1))
	header.Type = FrameHeader
	frames := []Frame{header}
	if body != "" {
		frames = append(frames, Frame{Type: FrameBody, Channel: channel, Payload: []byte(body)})
	}
	return frames
}

func publish(channel uint16, id, body string) []Frame {
	return append([]Frame{MethodFrame(channel, 60, 40, uint16(0), "x", "k", uint8(1))}, contentFrames(channel, id, body)...)
}

func deliver(channel uint16, tag uint64, redelivered bool, id string) []Frame {
	return append([]Frame{MethodFrame(channel, 60, 60, "c1", tag, redelivered, "x", "k")}, contentFrames(channel, id, "body")...)
}

func TestEventsOfAPublisher(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	var r record
	s.Observe(r.observe)
	say := func(from, to peer, frames ...Frame) {
		t.Helper()
		from.send(frames...)
		to.expect(frames...)
	}
	client.write([]byte(protocolHeader))
	broker.expectBytes([]byte(protocolHeader))
	say(client, broker, startOk("billing"))
	say(broker, client, MethodFrame(0, 10, 41, ""))
	say(client, broker, MethodFrame(1, 20, 10, ""))
	say(client, broker, publish(1, "before", "")...)
	say(client, broker, MethodFrame(1, 85, 10, false)) // confirm.select
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		say(client, broker, publish(1, id, "body")...)
	}
	say(broker, client, BasicAck(1, 2, true))
	say(broker, client, append([]Frame{MethodFrame(1, 60, 50, uint16(312), "NO_ROUTE", "x", "k")}, contentFrames(1, "d", "body")...)...)
	say(broker, client, BasicAck(1, 4, false), BasicNack(1, 3, false, false), BasicAck(1, 4, false), BasicAck(1, 0, true))
	say(broker, client, ConnectionBlocked("low on memory"), ConnectionUnblocked())
	say(broker, client, ChannelClose(1, 404, "NOT_FOUND"))
	say(client, broker, MethodFrame(1, 20, 41), MethodFrame(1, 20, 10, ""), MethodFrame(1, 85, 10, false))
	say(client, broker, publish(1, "f", "")...)
	say(client, broker, ConnectionClose(200, "bye"))
	lost := s.Next(func(e Event) bool { return e.Kind == LinkClosed })
	_, _ = client.Close(), broker.Close()
	<-lost
	r.expect(t,
		"ConnectionOpened from=broker name=billing",
		"ChannelOpened from=client name=billing ch=1",
		"Published from=client name=billing ch=1 id=before exchange=x key=k",
		"Published from=client name=billing ch=1 tag=1 id=a exchange=x key=k",
		"Published from=client name=billing ch=1 tag=2 id=b exchange=x key=k",
		"Published from=client name=billing ch=1 tag=3 id=c exchange=x key=k",
		"Published from=client name=billing ch=1 tag=4 id=d exchange=x key=k",
		"Published from=client name=billing ch=1 tag=5 id=e exchange=x key=k",
		"Confirmed from=broker name=billing ch=1 tag=1 multiple=true id=a",
		"Confirmed from=broker name=billing ch=1 tag=2 multiple=true id=b",
		"Returned from=broker name=billing ch=1 id=d exchange=x key=k code=312 text=NO_ROUTE",
		"Confirmed from=broker name=billing ch=1 tag=4 id=d",
		"Nacked from=broker name=billing ch=1 tag=3 id=c",
		"Confirmed from=broker name=billing ch=1 tag=4 stray=true",
		"Confirmed from=broker name=billing ch=1 tag=5 multiple=true id=e",
		"Blocked from=broker name=billing text=low on memory",
		"Unblocked from=broker name=billing",
		"ChannelClosed from=broker name=billing ch=1 code=404 text=NOT_FOUND",
		"ChannelOpened from=client name=billing ch=1",
		"Published from=client name=billing ch=1 tag=1 id=f exchange=x key=k",
		"ConnectionClosed from=client name=billing code=200 text=bye",
		"LinkClosed name=billing",
	)
}

func TestEventsOfAConsumer(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	var r record
	s.Observe(r.observe)
	say := func(from, to peer, frames ...Frame) {
		t.Helper()
		from.send(frames...)
		to.expect(frames...)
	}
	say(client, broker, MethodFrame(3, 20, 10, ""))
	say(client, broker, MethodFrame(3, 60, 20, uint16(0), "q", "c1", uint8(0), []byte(nil)))
	for tag := range uint64(6) {
		say(broker, client, deliver(3, tag+1, tag == 0, fmt.Sprint("m", tag+1))...)
	}
	say(broker, client, append([]Frame{MethodFrame(3, 60, 71, uint64(7), true, "x", "k", uint32(0))}, contentFrames(3, "m7", "")...)...)
	say(client, broker, BasicAck(3, 2, true))
	say(client, broker, MethodFrame(3, 60, 90, uint64(4), true), BasicNack(3, 5, true, true))
	say(client, broker, BasicAck(3, 5, false), BasicAck(3, 99, false), BasicNack(3, 0, true, false))
	say(broker, client, BasicCancel(3, "c1"))
	say(client, broker, MethodFrame(3, 60, 30, "c2", false))
	settled := []string{
		"Acked from=client ch=3 tag=1 multiple=true id=m1",
		"Acked from=client ch=3 tag=2 multiple=true id=m2",
		"Rejected from=client ch=3 tag=4 requeue=true id=m4",
		"DeliveryNacked from=client ch=3 tag=3 multiple=true requeue=true id=m3",
		"DeliveryNacked from=client ch=3 tag=5 multiple=true requeue=true id=m5",
		"Acked from=client ch=3 tag=5 stray=true",
		"Acked from=client ch=3 tag=99 stray=true",
		"DeliveryNacked from=client ch=3 tag=6 multiple=true id=m6",
		"DeliveryNacked from=client ch=3 tag=7 multiple=true id=m7",
	}
	cancelled := s.Next(func(e Event) bool { return e.ConsumerTag == "c3" })
	say(client, broker, MethodFrame(3, 60, 30, "c3", false))
	<-cancelled
	r.expect(t, append(append([]string{
		"ChannelOpened from=client ch=3",
		"Subscribed from=client ch=3 queue=q consumer=c1",
		"Delivered from=broker ch=3 tag=1 redelivered=true id=m1 consumer=c1 exchange=x key=k",
		"Delivered from=broker ch=3 tag=2 id=m2 consumer=c1 exchange=x key=k",
		"Delivered from=broker ch=3 tag=3 id=m3 consumer=c1 exchange=x key=k",
		"Delivered from=broker ch=3 tag=4 id=m4 consumer=c1 exchange=x key=k",
		"Delivered from=broker ch=3 tag=5 id=m5 consumer=c1 exchange=x key=k",
		"Delivered from=broker ch=3 tag=6 id=m6 consumer=c1 exchange=x key=k",
		"Delivered from=broker ch=3 tag=7 redelivered=true id=m7 exchange=x key=k",
	}, settled...),
		"Cancelled from=broker ch=3 consumer=c1",
		"Cancelled from=client ch=3 consumer=c2",
		"Cancelled from=client ch=3 consumer=c3",
	)...)
	for _, e := range s.Settlements() {
		r.observe(e)
	}
	r.expect(t, settled...)
}

func TestDiscardedFramesCauseNoEvent(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	opened := s.Next(func(e Event) bool { return e.Kind == ChannelOpened })
	client.send(MethodFrame(1, 20, 10, ""), MethodFrame(1, 85, 10, false))
	broker.expect(MethodFrame(1, 20, 10, ""), MethodFrame(1, 85, 10, false))
	<-opened
	var r record
	s.Observe(r.observe)

	whole := publish(1, "half", "body")
	client.send(whole[0], whole[1])
	broker.expect(whole[0], whole[1]) // without a body
	s.Blackhole(FromBroker)
	broker.send(ConnectionBlocked("lost"))
	client.expectSilence()
	s.Clear()
	s.Inject(FromBroker, ConnectionBlocked("injected"))
	client.expect(ConnectionBlocked("injected"))
	for _, part := range []string{"bo", "dy"} {
		half := Frame{Type: FrameBody, Channel: 1, Payload: []byte(part)}
		client.send(half)
		broker.expect(half)
		broker.send(ConnectionUnblocked())
		client.expect(ConnectionUnblocked())
	}
	s.HoldConfirms()
	kept := s.Next(func(e Event) bool { return e.Kind == ConfirmHeld })
	broker.send(BasicAck(1, 1, false))
	<-kept
	confirmed := s.Next(func(e Event) bool { return e.Kind == Confirmed })
	s.ReleaseConfirms()
	client.expect(BasicAck(1, 1, false))
	<-confirmed
	s.Delay(FromBroker, soon*100)
	broker.send(ConnectionBlocked("on its way"))
	client.expectSilence()
	lost := s.Next(func(e Event) bool { return e.Kind == LinkClosed })
	s.Cut()
	<-lost
	r.expect(t,
		"Unblocked from=broker",
		"Published from=client ch=1 tag=1 id=half exchange=x key=k",
		"Unblocked from=broker",
		"ConfirmHeld from=broker ch=1 tag=1 id=half",
		"Confirmed from=broker ch=1 tag=1 id=half",
		"LinkClosed",
	)
}

func TestObserverMaySetFaults(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.Observe(func(e Event) {
		if e.Kind == Blocked {
			s.Cut()
		}
	})
	broker.send(ConnectionBlocked("why"))
	client.expect(ConnectionBlocked("why"))
	client.expectEnd(errReset)
}

func TestSettlementsKeepsTheLatestEvents(t *testing.T) {
	var p Proxy
	for i := range 5*maxSettlements/2 + 1 {
		p.recorder.record(Event{Kind: Acked, Tag: uint64(i)})
		p.recorder.record(Event{Kind: Delivered})
	}
	if n := len(p.recorder.settlements); n > 2*maxSettlements {
		t.Errorf("%d are kept", n)
	}
	got := p.Settlements()
	if first, last := got[0].Tag, got[len(got)-1].Tag; len(got) != maxSettlements || last != 5*maxSettlements/2 || last-first != maxSettlements-1 {
		t.Errorf("%d settlements, %d to %d", len(got), first, last)
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k := LinkOpened; k <= DeliveryNacked; k++ {
		if k.String() == "" {
			t.Errorf("kind %d has no name", int(k))
		}
	}
	if s := (DeliveryNacked + 1).String(); s != "Kind(20)" {
		t.Errorf("String of no kind = %q", s)
	}
}

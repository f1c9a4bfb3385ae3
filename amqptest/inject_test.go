package amqptest

import "testing"

func TestHoldAndDropConfirmsAffectOnlyConfirms(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.HoldConfirms()
	delivery := BasicDeliver(2, "c", 1, Message{Key: "q", Body: []byte("hello")})
	broker.send(BasicAck(1, 1, false), Heartbeat(), BasicNack(1, 2, false, false), delivery[0], delivery[1], delivery[2])
	client.expect(append([]Frame{Heartbeat()}, delivery...)...)
	client.send(BasicAck(2, 1, false)) // a settlement, not a confirm
	broker.expect(BasicAck(2, 1, false))
	broker.send(ConnectionBlocked("something else"), ConnectionUnblocked())
	client.expect(ConnectionBlocked("something else"), ConnectionUnblocked())
	s.ReleaseConfirms()
	client.expect(BasicAck(1, 1, false), BasicNack(1, 2, false, false))

	s.HoldConfirms()
	kept := s.Next(func(e Event) bool { return e.Kind == ConfirmHeld })
	broker.send(BasicAck(1, 3, false))
	if e := <-kept; e.Tag != 3 || e.Channel != 1 {
		t.Errorf("kept back: %+v", e)
	}
	s.Clear()
	client.expect(BasicAck(1, 3, false))

	s.DropConfirms(true)
	broker.send(BasicAck(1, 4, false), Heartbeat())
	client.expect(Heartbeat())
	s.DropConfirms(false)
	broker.send(BasicAck(1, 5, false))
	client.expect(BasicAck(1, 5, false))
}

func TestInjectDoesNotSplitFramesOrMessages(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	message := BasicDeliver(1, "c", 1, Message{Key: "q", Body: []byte("hello")})
	started := wireOf(message[0], message[1])
	broker.write(started[:len(started)-1])
	client.expect(message[0])
	if n := s.Inject(FromBroker, BasicCancel(1, "c")) + s.Inject(FromBroker, ConnectionBlocked("why")); n != 2 {
		t.Errorf("Inject reached %d links, want one twice", n)
	}
	client.expectSilence() // inside a frame, then inside a message on the channel
	broker.write(started[len(started)-1:])
	client.expect(message[1])
	broker.send(message[2])
	client.expect(message[2], BasicCancel(1, "c"), ConnectionBlocked("why"))

	long := wireOf(body(1, 1, 1000))
	broker.write(long[:500])
	client.expectBytes(long[:500])
	s.Inject(FromBroker, Heartbeat())
	client.expectSilence()
	broker.write(long[500:])
	client.expectBytes(long[500:])
	client.expect(Heartbeat())

	s.InjectRaw(BothDirections, []byte("garbage"))
	client.expectBytes([]byte("garbage"))
	broker.expectBytes([]byte("garbage"))
}

func TestInjectDuringAnotherChannelsMessage(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	message := BasicDeliver(1, "c", 1, Message{Key: "q", Body: []byte("hello")})
	broker.send(message[0])
	client.expect(message[0])
	s.Inject(FromBroker, BasicCancel(2, "c"))
	client.expect(BasicCancel(2, "c"))
}

package amqptest

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestCutResetsBothSides(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	other, behind := s.link()
	if n := s.Cut(); n != 2 {
		t.Errorf("Cut = %d, want 2", n)
	}
	for _, p := range []peer{client, broker, other, behind} {
		p.expectEnd(errReset)
	}
	if n := s.Links() + s.Cut(); n != 0 {
		t.Errorf("%d links after Cut", n)
	}
	client, broker = s.link()
	client.send(Heartbeat())
	broker.expect(Heartbeat())
}

func TestHalfCloseClosesOneDirection(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	if n := s.HalfClose(FromBroker); n != 1 {
		t.Errorf("HalfClose = %d, want 1", n)
	}
	client.expectEnd(io.EOF)
	client.send(Heartbeat())
	broker.expect(Heartbeat())
	for range 100 { // writes after the reader closed have no effect
		broker.send(body(1, 0, 200_000))
	}
	client.send(Heartbeat())
	broker.expect(Heartbeat())
}

func TestCutAfterCutsOnceAtTheExactByte(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	other, behind := s.link()
	client.send(Heartbeat())
	broker.expect(Heartbeat())
	s.CutAfter(FromClient, 12)
	s.CutAfter(FromClient, 1000) // two limits
	frames := wireOf(Heartbeat(), Heartbeat())
	client.write(frames[:8])
	broker.expectBytes(frames[:8])
	s.Delay(FromClient, 0) // does not restart the count
	client.write(frames[8:])
	broker.expectBytes(frames[8:12])
	broker.expectEnd(errReset)
	client.expectEnd(errReset)

	other.write(frames)
	behind.expectBytes(frames)
	client, broker = s.link()
	client.write(frames)
	broker.expectBytes(frames)
	s.Clear()
	client.write(make([]byte, 1000))
	broker.expectBytes(make([]byte, 1000))

	s.CutAfter(FromBroker, 3)
	client, broker = s.link() // counted from its start
	broker.write(frames)
	client.expectBytes(frames[:3])
	client.expectEnd(errReset)
}

func TestCutAtCutsBeforeInsideOrAfterAFrame(t *testing.T) {
	for at, passes := range map[CutPoint]int{BeforeFrame: 0, InsideFrame: 10, AfterFrame: 21} {
		s := newStage(t)
		client, broker := s.link()
		other, behind := s.link()
		s.CutAt(FromBroker, at, IsConfirm)
		ack := wireOf(BasicAck(1, 1, false))
		broker.write(append(wireOf(Heartbeat()), ack...))
		client.expect(Heartbeat())
		client.expectBytes(ack[:passes])
		client.expectEnd(errReset)
		broker.expectEnd(errReset)
		behind.write(ack) // only once
		other.expectBytes(ack)
	}
}

func TestCutAtSeesWholeBodies(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.CutAt(FromClient, InsideFrame, func(f Frame) bool { return f.Type == FrameBody && f.Payload[len(f.Payload)-1] == 'x' })
	innocent, last := body(1, 1, 200_000), body(1, 2, 200_000)
	last.Payload[199_999] = 'x'
	client.send(innocent)
	broker.expect(innocent)
	client.send(last)
	got, err := io.ReadAll(broker)
	if half := wireOf(last)[:100_004]; !errors.Is(err, errReset) || !bytes.HasPrefix(half, got) {
		t.Errorf("%d bytes came (%v), want a reset after %d at most", len(got), err, len(half))
	}
}

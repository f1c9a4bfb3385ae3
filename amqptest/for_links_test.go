package amqptest

import (
	"testing"
	"time"
)

func TestForLinksSelectsLinks(t *testing.T) {
	s := newStage(t)
	billing := s.ForLinks(func(l Link) bool { return l.Name == "billing" })
	billing.Pause(FromBroker)
	client, broker := s.link()
	other, behind := s.link()
	for _, p := range []struct {
		client, broker peer
		name           string
	}{{client, broker, "billing"}, {other, behind, "other"}} {
		p.broker.send(Heartbeat())
		p.client.expect(Heartbeat()) // no link has a name yet
		p.client.send(startOk(p.name))
		p.broker.expect(startOk(p.name))
		p.broker.send(ConnectionBlocked(p.name))
	}
	other.expect(ConnectionBlocked("other"))
	client.expectSilence()
	if all, some := s.Links(), billing.Links(); all != 2 || some != 1 {
		t.Errorf("%d links, %d of them billing's", all, some)
	}
	billing.Clear()
	client.expect(ConnectionBlocked("billing"))

	if n := billing.Inject(FromBroker, Heartbeat()); n != 1 {
		t.Errorf("Inject reached %d links, want 1", n)
	}
	client.expect(Heartbeat())
	if n := billing.Cut(); n != 1 {
		t.Errorf("Cut = %d, want 1", n)
	}
	client.expectEnd(errReset)
	other.send(Heartbeat())
	behind.expect(Heartbeat())
	if err := billing.AwaitLinks(within(t, soon), 0); err != nil {
		t.Error(err)
	}
	if err := s.AwaitLinks(within(t, 10*time.Millisecond), 2); err == nil {
		t.Error("AwaitLinks found a link that was cut")
	}
}

func TestForLinksDistinguishesPublishersFromConsumers(t *testing.T) {
	s := newStage(t)
	publishers := s.ForLinks(func(l Link) bool { return l.Publishes })
	consumers := s.ForLinks(func(l Link) bool { return l.Consumes })
	second := s.ForLinks(func(l Link) bool { return l.ID == 2 })
	for _, first := range [][]Frame{
		{MethodFrame(1, 85, 10, false)}, publish(1, "", ""), // publishers
		{MethodFrame(1, 60, 20, uint16(0), "q", "c", uint8(0), []byte(nil))}, {MethodFrame(1, 60, 70, uint16(0), "q", false)},
	} {
		client, broker := s.link()
		client.send(first...)
		broker.expect(first...)
		client.send(Heartbeat()) // processed after the frames that identify the client
		broker.expect(Heartbeat())
	}
	if p, c, n := publishers.Links(), consumers.Links(), second.Links(); p != 2 || c != 2 || n != 1 {
		t.Errorf("%d publishers, %d consumers, want 2 and 2; %d of one id", p, c, n)
	}
	if n := publishers.ForLinks(func(l Link) bool { return l.ID == 2 }).Links(); n != 1 {
		t.Errorf("%d publishers with the id 2, want 1", n)
	}
	if n := consumers.ForLinks(func(l Link) bool { return l.ID == 2 }).Links(); n != 0 {
		t.Errorf("%d consumers with the id 2, want none", n)
	}
}

func TestNarrowerSelectionWinsAndProxyClearRemovesAll(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	first := s.ForLinks(func(l Link) bool { return l.ID == 1 })
	first.Delay(FromBroker, time.Hour)
	s.Delay(FromBroker, time.Millisecond)
	broker.send(Heartbeat())
	client.expectSilence()
	first.Clear()
	client.expect(Heartbeat())

	first.HoldConfirms()
	first.Pause(FromClient)
	client.send(Heartbeat())
	broker.send(BasicAck(1, 1, false))
	broker.expectSilence()
	s.Clear()
	broker.expect(Heartbeat())
	client.expect(BasicAck(1, 1, false))
	first.Fragment(BothDirections, 1) // without the faults set before
	client.send(Heartbeat())
	broker.expect(Heartbeat())
}

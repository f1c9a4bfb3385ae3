package amqptest

import (
	"bytes"
	"io"
	"testing"
	"time"
)

func TestBlackholeDiscardsEverythingSilently(t *testing.T) {
	for _, way := range []Direction{FromClient, FromBroker} {
		s := newStage(t)
		client, broker := s.link()
		from, to := client, broker
		if way == FromBroker {
			from, to = broker, client
		}
		from.send(body(0, 0, 8))
		to.expect(body(0, 0, 8))
		s.Blackhole(way)
		for i := range 2000 { // more than the buffers hold
			from.send(body(0, 1+i, 10_000))
		}
		to.expectSilence()
		to.send(Heartbeat()) // the other direction is open
		from.expect(Heartbeat())

		s.Clear()
		from.send(body(0, 1<<20, 8))
		got := make([]byte, 10_000+frameHeader+1)
		for { // the last ones may arrive after Clear
			_ = to.SetReadDeadline(time.Now().Add(soon))
			if _, err := io.ReadFull(to, got[:frameHeader]); err != nil {
				t.Fatal(err)
			}
			f, size, err := peekFrame(got[:frameHeader])
			if err != nil || f.Type != FrameBody {
				t.Fatalf("what came after Resume is no frame: %q", got[:frameHeader])
			}
			_, _ = io.ReadFull(to, got[:size-frameHeader])
			if size == 8+frameHeader+1 {
				break
			}
		}

		s.Blackhole(way)
		_ = from.Close()
		to.expectSilence()
		s.Clear()
		to.expectEnd(io.EOF)
	}
}

func TestBlackholedLinkEndsWhenBothPeersHangUp(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.Blackhole(BothDirections)
	_ = client.Close()
	if err := s.AwaitLinks(within(t, soon), 0); err != nil {
		t.Error(err)
	}
	broker.expectSilence()
	lost := s.Next(func(e Event) bool { return e.Kind == LinkClosed })
	_ = broker.Close()
	select {
	case <-lost:
	case <-within(t, soon).Done():
		t.Error("the link goes on with nobody at either end")
	}
}

func TestPauseCausesBackpressure(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.Pause(FromClient)
	sent := bytes.Buffer{}
	for i := 0; ; i++ {
		b := wireOf(body(1, i, 100_000))
		_ = client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := client.Write(b)
		sent.Write(b[:n])
		if err != nil {
			break
		}
		if sent.Len() > 64<<20 {
			t.Fatal("no back-pressure")
		}
	}
	_ = client.CloseWrite()
	broker.expectSilence()
	broker.send(Heartbeat())
	client.expect(Heartbeat())
	s.Clear()
	broker.expectBytes(sent.Bytes())
	broker.expectEnd(io.EOF)
}

func TestDelayKeepsOrderAndBandwidth(t *testing.T) {
	const by = 100 * time.Millisecond
	s := newStage(t)
	client, broker := s.link()
	s.Delay(FromBroker, by)
	var want []byte
	start := time.Now()
	for i := range 40 {
		b := wireOf(body(1, i, 100_000))
		broker.write(b)
		want = append(want, b...)
	}
	_ = broker.CloseWrite()
	client.expectBytes(want[:1])
	if took := time.Since(start); took < by {
		t.Errorf("the first byte came after %v, want %v", took, by)
	}
	client.expectBytes(want[1:])
	client.expectEnd(io.EOF)
	if took := time.Since(start); took > 10*by { // sequential delays would take 40 times as long
		t.Errorf("all came after %v", took)
	}

	client, broker = s.link()
	s.Delay(FromBroker, time.Hour)
	broker.send(Heartbeat())
	client.expectSilence()
	s.Clear()
	client.expect(Heartbeat())
}

func TestThrottleLimitsBandwidth(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.Throttle(FromClient, 100_000)
	start := time.Now()
	client.send(body(1, 1, 30_000))
	broker.expect(body(1, 1, 30_000))
	if took := time.Since(start); took < 200*time.Millisecond || took > 3*time.Second {
		t.Errorf("30 kB took %v at 100 kB/s", took)
	}
	s.Throttle(FromClient, 1)
	client.send(body(1, 2, 30_000))
	broker.expectBytes([]byte{FrameBody})
	s.Throttle(FromClient, 0)
	broker.expectBytes(wireOf(body(1, 2, 30_000))[1:])
}

func TestFragmentLimitsWriteSize(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.Fragment(FromClient, 1)
	want := wireOf(body(1, 1, 20_000))
	client.write(want)
	got, buf, reads := []byte(nil), make([]byte, len(want)), 0
	_ = broker.SetReadDeadline(time.Now().Add(soon))
	for len(got) < len(want) {
		n, err := broker.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
		reads++
	}
	if !bytes.Equal(got, want) {
		t.Error("what came is not what was sent")
	}
	if reads < 20 {
		t.Errorf("%d reads for 20,000 writes of one byte", reads)
	}
}

package amqptest

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestProxyForwardsBytesUnchanged(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	r := rand.New(rand.NewPCG(1, 2))
	stream := []byte(protocolHeader)
	for range 2000 {
		f := Frame{Type: []byte{1, 2, 3, 8}[r.IntN(4)], Channel: uint16(r.IntN(3)), Payload: make([]byte, r.IntN(300))}
		for i := range f.Payload {
			f.Payload[i] = byte(r.Uint32())
		}
		stream = f.appendTo(stream)
	}
	stream = append(stream, wireOf(body(1, 1, 3<<20))...)
	stream = append(stream, "no frame at all"...)
	for _, way := range []struct{ from, to peer }{{client, broker}, {broker, client}} {
		go func() {
			for rest := stream; len(rest) > 0; {
				n := min(len(rest), 1+r.IntN(5000))
				way.from.write(rest[:n])
				rest = rest[n:]
			}
			_ = way.from.CloseWrite()
		}()
		way.to.expectBytes(stream)
		way.to.expectEnd(io.EOF)
	}
	if err := s.AwaitLinks(within(t, soon), 0); err != nil {
		t.Error(err)
	}
}

func TestHangUpsAreForwarded(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	client.send(Heartbeat())
	_ = client.CloseWrite()
	broker.expect(Heartbeat())
	broker.expectEnd(io.EOF)
	broker.send(Heartbeat()) // the other direction is open
	client.expect(Heartbeat())
	_ = broker.Close()
	client.expectEnd(io.EOF)

	client, broker = s.link()
	reset(client.TCPConn)
	broker.expectEnd(errReset)

	client, broker = s.link()
	broker.write([]byte{FrameBody, 0}) // an incomplete frame passes too
	_ = broker.Close()
	client.expectBytes([]byte{FrameBody, 0})
	client.expectEnd(io.EOF)
}

func TestFullyClosedPeerCausesAReset(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	_ = client.Close()
	broker.expectEnd(io.EOF)
	var err error
	for start := time.Now(); err == nil && time.Since(start) < soon; {
		_, err = broker.Write(wireOf(body(1, 1, 1000)))
	}
	if err == nil {
		t.Error("the broker sends to nobody and does not know")
	}
}

func TestPeerThatDoesNotReadBlocksOneDirection(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	_ = client.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := client.Write(make([]byte, 64<<20)); err == nil {
		t.Fatalf("%d bytes went to a peer that does not read", n)
	}
	broker.send(Heartbeat())
	client.expect(Heartbeat())
	s.Pause(FromBroker) // noticed as well
	broker.send(Heartbeat())
	client.expectSilence()
}

func TestClosedLinksLeaveNoSocketOpen(t *testing.T) {
	open := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err) // needs Linux
		}
		return len(files)
	}
	s := newStage(t)
	before := open()
	for range 20 {
		client, broker := s.link()
		lost := s.Next(func(e Event) bool { return e.Kind == LinkClosed })
		_, _ = client.Close(), broker.Close()
		<-lost
	}
	if after := open(); after > before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

func TestCutResetsALinkThatIsBeingDialled(t *testing.T) {
	s := newStage(t)
	client, dialled := s.link() // any two connections
	l := &link{proxy: s.Proxy, client: client.TCPConn}
	s.update(l.cut)
	l.start(dialled.TCPConn)
	if l.pumps[toBroker].refresh() || l.pumps[toClient].refresh() {
		t.Error("the link goes on")
	}
	if _, err := dialled.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection to the broker is open (%v)", err)
	}
}

func TestRefuseConnectionsResetsNewConnections(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.RefuseConnections(true)
	s.expectRefusal()
	client.send(Heartbeat())
	broker.expect(Heartbeat())
	s.RefuseConnections(false)
	s.link()
}

func TestRedirectMovesNewConnections(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	other := listen(t)
	s.Redirect(other.Addr().String())
	s.behind = other
	second, behind := s.link()
	second.send(Heartbeat())
	behind.expect(Heartbeat())
	client.send(Heartbeat())
	broker.expect(Heartbeat())
	_ = other.Close()
	s.expectRefusal() // no listener
}

func TestNewProxyRejectsUnusableURLs(t *testing.T) {
	for _, u := range []string{"amqps://guest:s3cret@127.0.0.1", "http://guest:s3cret@127.0.0.1", "amqp://guest:s3c%ret@h", "amqp:", ""} {
		p, err := NewProxy(u)
		if err == nil {
			_ = p.Close()
			t.Errorf("a proxy stands before %q", u)
		} else if strings.Contains(err.Error(), "s3c") {
			t.Errorf("%v: a piece of the password", err)
		}
	}
	p := StartProxy(t, "amqp://u:p@127.0.0.1/v%2Fh?heartbeat=3")
	if want := "amqp://u:p@" + p.Addr() + "/v%2Fh?heartbeat=3"; p.URL() != want {
		t.Errorf("URL = %s, want %s", p.URL(), want)
	}
}

// goleak in main_test.go finds goroutines that Close leaves behind.
func TestCloseInterruptsEveryWait(t *testing.T) {
	for name, fault := range map[string]func(*Proxy){
		"nothing":  func(*Proxy) {},
		"hold":     func(p *Proxy) { p.Pause(BothDirections) },
		"discard":  func(p *Proxy) { p.Blackhole(BothDirections) },
		"delay":    func(p *Proxy) { p.Delay(BothDirections, time.Hour) },
		"throttle": func(p *Proxy) { p.Throttle(BothDirections, 1) },
		"stuck":    func(*Proxy) {}, // the client does not read
	} {
		s := newStage(t)
		fault(s.Proxy)
		client, broker := s.link()
		written := make(chan struct{})
		go func() { defer close(written); _, _ = client.Write(make([]byte, 16<<20)) }()
		client.expectSilence()
		if name == "discard" {
			_ = broker.Close()
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = s.Close() }()
		select {
		case <-ended:
		case <-time.After(soon):
			t.Fatalf("%s: Close hangs", name)
		}
		<-written
		if _, err := net.Dial("tcp", s.Addr()); err == nil {
			t.Errorf("%s: a closed proxy listens", name)
		}
		_ = s.Close() // a second call
	}
}

func TestFrameClaimingFourGigabytesIsNotBuffered(t *testing.T) {
	s := newStage(t)
	client, broker := s.link()
	s.CutAt(BothDirections, BeforeFrame, func(Frame) bool { return false }) // evaluates bodies too
	for _, kind := range []byte{FrameMethod, FrameHeader, FrameBody} {
		huge := []byte{kind, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF}
		client.write(huge)
		broker.expectBytes(huge)
		client.write(make([]byte, 5<<20))
		broker.expectBytes(make([]byte, 5<<20))
		client, broker = s.link()
	}
}

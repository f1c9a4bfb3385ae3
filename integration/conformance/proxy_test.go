package conformance

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// These tests show that the proxy does what it says between amqp091-go alone and a real broker.

// A proxied is a client behind a proxy, with one channel in confirm mode and a queue.
type proxied struct {
	*amqptest.Proxy
	t      *testing.T
	conn   *amqp.Connection
	ch     *amqp.Channel
	queue  string
	closed chan *amqp.Error
}

func newProxied(t *testing.T) *proxied {
	t.Helper()
	p := &proxied{Proxy: amqptest.StartProxy(t, kit.Broker(t).URL()), t: t, queue: kit.QuorumQueue(t, nil)}
	var err error
	p.conn, err = amqp.DialConfig(p.URL(), amqp.Config{Heartbeat: time.Second, Properties: amqp.Table{"connection_name": t.Name()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.conn.CloseDeadline(time.Now()) })
	p.closed = p.conn.NotifyClose(make(chan *amqp.Error, 1))
	p.ch = kit.Channel(t, p.conn)
	if err := p.ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *proxied) publish(body []byte) *amqp.DeferredConfirmation {
	p.t.Helper()
	c, err := p.ch.PublishWithDeferredConfirm("", p.queue, true, false, amqp.Publishing{Body: body, MessageId: kit.Unique("m"), DeliveryMode: amqp.Persistent})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *proxied) confirmed(c *amqp.DeferredConfirmation) {
	p.t.Helper()
	if ok, err := c.WaitContext(kit.Within(p.t, 20*time.Second)); err != nil || !ok {
		p.t.Fatalf("confirmed = %v, %v", ok, err)
	}
}

// expectLoss waits for the end of the connection and compares its reason.
func (p *proxied) expectLoss(reason string) {
	p.t.Helper()
	select {
	case err := <-p.closed:
		if !strings.Contains(err.Error(), reason) {
			p.t.Errorf("lost for %v, want %q", err, reason)
		}
	case <-kit.Within(p.t, 20*time.Second).Done():
		p.t.Error("the connection lives")
	}
}

func TestProxyCutsLinks(t *testing.T) {
	for name, c := range map[string]struct {
		cut    func(*proxied)
		reason string
		stored int
	}{
		"at once":                  {func(p *proxied) { p.Cut() }, "reset by peer", 0},
		"what the broker sends":    {func(p *proxied) { p.HalfClose(amqptest.FromBroker) }, "EOF", 0},
		"what the client sends":    {func(p *proxied) { p.HalfClose(amqptest.FromClient) }, "EOF", 0},
		"in mid-frame":             {func(p *proxied) { p.CutAfter(amqptest.FromClient, 300); p.publish(make([]byte, 500)) }, "reset by peer", 0},
		"before a publish":         {func(p *proxied) { p.cutAtPublish(amqptest.BeforeFrame) }, "reset by peer", 0},
		"inside a body":            {func(p *proxied) { p.cutAtBody(amqptest.InsideFrame) }, "reset by peer", 0},
		"stored, and nobody knows": {func(p *proxied) { p.cutAtConfirm(amqptest.BeforeFrame) }, "reset by peer", 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxied(t)
			c.cut(p)
			p.expectLoss(c.reason)
			if err := p.AwaitLinks(kit.Within(t, 10*time.Second), 0); err != nil {
				t.Error(err)
			}
			kit.Take(t, p.queue, c.stored)
			if n := kit.Ready(t, p.queue); n != 0 {
				t.Errorf("%d messages more than %d are stored", n, c.stored)
			}
		})
	}
}

func (p *proxied) cutAtPublish(at amqptest.CutPoint) {
	p.CutAt(amqptest.FromClient, at, amqptest.IsMethod(60, 40))
	p.publish([]byte("m"))
}

func (p *proxied) cutAtBody(at amqptest.CutPoint) {
	p.CutAt(amqptest.FromClient, at, func(f amqptest.Frame) bool { return f.Type == amqptest.FrameBody })
	p.publish([]byte("m"))
}

func (p *proxied) cutAtConfirm(at amqptest.CutPoint) {
	p.CutAt(amqptest.FromBroker, at, amqptest.IsConfirm)
	if ok := p.publish([]byte("m")).Wait(); ok {
		p.t.Error("the confirm came")
	}
}

// The broker's own hang-up must not reach the client, or it would not have to notice by itself.
func TestProxyIsABlackHoleThatOnlyHeartbeatsTell(t *testing.T) {
	for _, d := range []amqptest.Direction{amqptest.FromBroker, amqptest.BothDirections} {
		p := newProxied(t)
		start := time.Now()
		p.Blackhole(d)
		p.expectLoss("timeout")
		if took := time.Since(start); took < 500*time.Millisecond {
			t.Errorf("noticed after %v, before the heartbeats were missing", took)
		}
	}
	p := newProxied(t)
	p.Blackhole(amqptest.FromClient) // RabbitMQ misses the client's heartbeats, closes, and is heard
	p.expectLoss("EOF")
}

func TestProxyHoldsAndTheClientIsStuckUntilItResumes(t *testing.T) {
	p := newProxied(t)
	p.Pause(amqptest.FromBroker) // for less than heartbeats take
	c := p.publish([]byte("m"))
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.WaitContext(short); err == nil {
		t.Error("a confirm passed")
	}
	p.Clear()
	p.confirmed(c)

	p.Pause(amqptest.FromClient)
	sent := make(chan error, 1)
	go func() { // more than the buffers between take
		var err error
		for range 40 {
			_, sendErr := p.ch.PublishWithDeferredConfirm("", p.queue, true, false, amqp.Publishing{Body: make([]byte, 1<<20)})
			err = errors.Join(err, sendErr)
		}
		sent <- err
	}()
	select {
	case err := <-sent:
		t.Errorf("40 MiB went into nowhere: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	p.Clear()
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestProxyDelaysThrottlesAndFragments(t *testing.T) {
	p := newProxied(t)
	took := func(size int) time.Duration {
		start := time.Now()
		p.confirmed(p.publish(make([]byte, size)))
		return time.Since(start)
	}
	p.Delay(amqptest.BothDirections, 100*time.Millisecond)
	if d := took(1); d < 200*time.Millisecond {
		t.Errorf("confirmed after %v with 100 ms each way", d)
	}
	p.Clear()
	p.Throttle(amqptest.FromClient, 50_000)
	if d := took(25_000); d < 400*time.Millisecond {
		t.Errorf("25 kB took %v at 50 kB/s", d)
	}
	p.Clear()
	p.Fragment(amqptest.BothDirections, 1)
	took(10_000)
	got := kit.Take(t, p.queue, 3)
	if !bytes.Equal(got[2].Body, make([]byte, 10_000)) {
		t.Error("what was fragmented is not what was sent")
	}
}

func TestProxyRefusesAndRedirects(t *testing.T) {
	p := newProxied(t)
	p.RefuseConnections(true)
	if _, err := amqp.Dial(p.URL()); err == nil {
		t.Error("a connection was not refused")
	}
	p.RefuseConnections(false)
	second := amqptest.StartProxy(t, kit.Broker(t).URL())
	p.Redirect(second.Addr())
	ac, err := amqp.Dial(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	if n := second.Links(); n != 1 {
		t.Errorf("%d links behind the redirection, want 1", n)
	}
	_ = ac.Close()
	p.confirmed(p.publish([]byte("m"))) // on the old way
}

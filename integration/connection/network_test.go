package connection

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// amqp091-go alone misses most of these: it clears the read deadline at the end of the handshake and sets one again
// only when something comes in.
func TestS09LinkDeadRightAfterOpenIsNoticedEachOfAHundredTimes(t *testing.T) {
	const links, heartbeat = 100, 2 * time.Second
	leavesNothing(t)
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	proxy.Observe(func(e amqptest.Event) {
		if e.Kind == amqptest.ConnectionOpened {
			proxy.ForLinks(func(l amqptest.Link) bool { return l.ID == e.Link }).Blackhole(amqptest.BothDirections)
		}
	})
	ctx := kit.Within(t, 20*time.Second)
	took := make([]time.Duration, links)
	var wg sync.WaitGroup
	for i := range took {
		wg.Go(func() {
			conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{proxy.URL()}, Heartbeat: heartbeat, Name: t.Name(), Logger: kit.Logger(t)})
			if err != nil {
				t.Error(err)
				return
			}
			start := time.Now()
			if !kit.StopsBeingReady(ctx, conn) {
				t.Errorf("link %d: nothing was noticed in %v", i, time.Since(start))
			}
			took[i] = time.Since(start)
			ended, cancel := context.WithCancel(ctx)
			cancel()
			if err := conn.Close(ended); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	t.Logf("%d links, heartbeat %v: noticed after %v to %v, median %v", links, heartbeat, took[0], took[links-1], took[links/2])
	if took[0] < heartbeat || took[links-1] > 2*heartbeat {
		t.Errorf("noticed after %v to %v, want one to two heartbeats of %v", took[0], took[links-1], heartbeat)
	}
}

func TestS10BlackHoleIsUnconfirmedInTimeAndLeftForAnotherNode(t *testing.T) {
	t.Parallel()
	const heartbeat = 2 * time.Second
	queue := kit.QuorumQueue(t, nil)
	here, there := amqptest.StartProxy(t, kit.Broker(t).URL()), amqptest.StartProxy(t, kit.Broker(t).URL())
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{here.URL(), there.URL()}, Heartbeat: heartbeat, DialTimeout: time.Second})
	never, again := kit.NewProducer(t, conn, producer.Config{NoResend: true}), kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 30*time.Second)
	for _, p := range []*producer.Producer{never, again} {
		if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
	}
	if there.Links() > 0 {
		here, there = there, here
	}

	here.Blackhole(amqptest.BothDirections)
	start := time.Now()
	resent := make(chan error, 1)
	go func() { resent <- again.Publish(ctx, "", queue, amqp.Publishing{Body: []byte("resent")}) }()
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	err := never.Publish(short, "", queue, amqp.Publishing{})
	if took := time.Since(start); !errors.Is(err, producer.ErrUnconfirmed) || !errors.Is(err, context.DeadlineExceeded) || took > 750*time.Millisecond {
		t.Errorf("Publish with a ctx of 500 ms = %v after %v, want ErrUnconfirmed", err, took)
	}
	err = never.Publish(ctx, "", queue, amqp.Publishing{})
	took := time.Since(start)
	if !errors.Is(err, producer.ErrUnconfirmed) || errors.Is(err, context.DeadlineExceeded) || took > heartbeat*3/2+500*time.Millisecond {
		t.Errorf("Publish = %v after %v, want ErrUnconfirmed after at most 1.5 heartbeats of %v", err, took, heartbeat)
	}
	if err := <-resent; err != nil {
		t.Errorf("the producer that sends again: %v", err)
	}
	t.Logf("heartbeat %v: unconfirmed after %v, sent again elsewhere after %v", heartbeat, took.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	if there.Links() != 1 {
		t.Errorf("%d links over the other node", there.Links())
	}
	if got := kit.Take(t, queue, 3); string(got[2].Body) != "resent" || kit.Ready(t, queue) != 0 {
		t.Errorf("the queue held %q at last, and %d more", got[2].Body, kit.Ready(t, queue))
	}
}

// A frame of 128 KiB takes longer than a heartbeat here, and the message ten of them.
func TestS16SlowLinkIsNotTakenForADeadOne(t *testing.T) {
	t.Parallel()
	const heartbeat = 2 * time.Second
	for name, c := range map[string]struct {
		fault func(*amqptest.Proxy)
		size  int
	}{
		"500 ms of latency":       {func(p *amqptest.Proxy) { p.Delay(amqptest.BothDirections, 500*time.Millisecond) }, 1 << 10},
		"1 MiB at 50 kB a second": {func(p *amqptest.Proxy) { p.Throttle(amqptest.BothDirections, 50_000) }, 1 << 20},
		"one byte at a time":      {func(p *amqptest.Proxy) { p.Fragment(amqptest.BothDirections, 1) }, 10 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, out := kit.QuorumQueue(t, nil), kit.QuorumQueue(t, nil)
			proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
			c.fault(proxy)
			conn := kit.Connect(t, amqpkit.Config{
				URLs: []string{proxy.URL()}, Heartbeat: heartbeat,
				Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
					nc, err := new(net.Dialer).DialContext(ctx, network, addr)
					if err == nil { // or a megabyte would fit into the buffers of the loopback device
						err = nc.(*net.TCPConn).SetWriteBuffer(16 << 10)
					}
					return nc, err
				},
			})
			ctx := kit.Within(t, 2*time.Minute)
			body := bytes.Repeat([]byte("0123456789abcdef"), c.size/16)
			outgoing, err := conn.PublishConnection(ctx)
			if err != nil {
				t.Fatal(err)
			}
			incoming, err := conn.ConsumeConnection(ctx)
			if err != nil {
				t.Fatal(err)
			}
			p, direct := kit.NewProducer(t, conn, producer.Config{}), kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{})
			start, messages := time.Now(), 0
			for ; time.Since(start) < 3*heartbeat; messages++ { // at once over both connections
				if err := direct.Publish(ctx, "", in, amqp.Publishing{Body: body}); err != nil {
					t.Fatal(err)
				}
				receipt, err := p.PublishAsync(ctx, "", out, amqp.Publishing{Body: body})
				if err != nil {
					t.Fatal(err)
				}
				d, ok, err := consumer.Get(ctx, conn, in)
				if err != nil || !ok || !bytes.Equal(d.Body, body) {
					t.Fatalf("Get = %v, %v", ok, err)
				}
				if err := d.Ack(false); err != nil {
					t.Fatal(err)
				}
				if err := receipt.Wait(ctx); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d messages of %d bytes each way in %v, heartbeat %v", messages, c.size, time.Since(start).Round(time.Millisecond), heartbeat)
			if outgoing.IsClosed() || incoming.IsClosed() {
				t.Errorf("a connection was given up")
			}
			if got := kit.Take(t, out, messages); !bytes.Equal(got[0].Body, body) || kit.Ready(t, in) != 0 {
				t.Errorf("%d bytes arrived; %d messages are left of what was got", len(got[0].Body), kit.Ready(t, in))
			}
		})
	}
}

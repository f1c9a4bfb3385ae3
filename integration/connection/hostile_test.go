package connection

import (
	"runtime"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestS62HostileBrokerCostsItsConnectionAndNothingElse(t *testing.T) {
	const heartbeat = time.Second
	oversize := []byte{amqptest.FrameMethod, 0, 1, 0xff, 0xff, 0xff, 0xff}
	for name, attack := range map[string]func(*amqptest.Proxy, amqptest.Event) int{
		"oversize frame": func(p *amqptest.Proxy, _ amqptest.Event) int {
			return p.InjectRaw(amqptest.FromBroker, oversize)
		},
		"HTTP": func(p *amqptest.Proxy, _ amqptest.Event) int {
			return p.InjectRaw(amqptest.FromBroker, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		},
		"method on unknown channel": func(p *amqptest.Proxy, _ amqptest.Event) int {
			return p.Inject(amqptest.FromBroker, amqptest.BasicAck(77, 1, false))
		},
		"unknown method": func(p *amqptest.Proxy, e amqptest.Event) int {
			return p.Inject(amqptest.FromBroker, amqptest.MethodFrame(e.Channel, 99, 9))
		},
		"ack of a tag far ahead": func(p *amqptest.Proxy, e amqptest.Event) int {
			return p.Inject(amqptest.FromBroker, amqptest.BasicAck(e.Channel, 1<<33, true))
		},
		"nack of the last tag there is": func(p *amqptest.Proxy, e amqptest.Event) int {
			return p.Inject(amqptest.FromBroker, amqptest.BasicNack(e.Channel, 1<<64-1, true, false))
		},
		"answer that nobody asked for": func(p *amqptest.Proxy, e amqptest.Event) int {
			return p.Inject(amqptest.FromBroker, amqptest.MethodFrame(e.Channel, 50, 11, "queue", uint32(0), uint32(0)))
		},
		"answer on channel 0": func(p *amqptest.Proxy, _ amqptest.Event) int {
			return p.Inject(amqptest.FromBroker, amqptest.MethodFrame(0, 10, 30, uint16(1), uint32(4096), uint16(1)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			queue := kit.QuorumQueue(t, nil)
			leavesNothing(t) // what spins or hangs would be there at the end
			proxy, conn := kit.Through(t, amqpkit.Config{Heartbeat: heartbeat})
			p := kit.NewProducer(t, conn, producer.Config{})
			ctx := kit.Within(t, 30*time.Second)
			published := proxy.Next(kit.Kind(amqptest.Published))
			if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
				t.Fatal(err)
			}
			session, err := conn.PublishConnection(ctx)
			if err != nil {
				t.Fatal(err)
			}
			lost := session.NotifyClose(make(chan *amqp.Error, 1))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			if n := attack(proxy, <-published); n != 1 {
				t.Fatalf("it reached %d links, want 1", n)
			}
			var reason error
			select {
			case reason = <-lost:
			case <-ctx.Done():
				t.Fatal("the session goes on")
			}
			took := time.Since(start)
			t.Logf("the session ended after %v: %v", took, reason)
			if took > 3*heartbeat { // a stuck reader's link is killed, which the next heartbeat notices
				t.Errorf("that is more than %v", 3*heartbeat)
			}
			if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
				t.Errorf("Publish = %v, want nil over a new session", err)
			}
			runtime.ReadMemStats(&after)
			if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 16<<20 {
				t.Errorf("%d bytes were allocated over it", grown)
			}
		})
	}
}

package consuming

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// Three handlers succeed and their acknowledgements get lost, each time in another way.
func TestPromise15AcknowledgementsLostInTheDrainAreReported(t *testing.T) {
	const n = 3
	for name, lose := range map[string]func(p *amqptest.Proxy, r *kit.Running, finish func()){
		"before the end of ctx": func(p *amqptest.Proxy, r *kit.Running, finish func()) {
			p.Blackhole(amqptest.FromClient)
			finish()
			r.End()
			p.Cut()
		},
		"in the drain": func(p *amqptest.Proxy, r *kit.Running, finish func()) {
			p.Blackhole(amqptest.FromClient)
			r.End()
			finish()
			p.Cut()
		},
		"into a black hole": func(p *amqptest.Proxy, r *kit.Running, finish func()) {
			p.Blackhole(amqptest.BothDirections)
			finish()
			r.End()
		},
		"with the handlers running": func(p *amqptest.Proxy, r *kit.Running, finish func()) {
			r.End()
			p.Cut()
			finish()
		},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
			b := kit.NewConsumerBenchThrough(t, proxy.URL())
			queue := b.Queue(nil)
			b.Publish(queue, kit.Numbers(n)...)
			begun, release, finished := make(chan struct{}, n), make(chan struct{}), make(chan struct{}, n)
			var log kit.Logbook
			r := b.Start(consumer.Config{Queue: queue, Workers: n, Prefetch: n, DrainTimeout: time.Second, Logger: log.Logger()},
				func(context.Context, *consumer.Delivery) error {
					begun <- struct{}{}
					<-release
					finished <- struct{}{}
					return nil
				})
			for range n {
				kit.Receive(t, begun, "delivery")
			}
			began := time.Now()
			lose(proxy, r, func() {
				close(release)
				for range n {
					kit.Receive(t, finished, "handler")
				}
			})
			var d *consumer.DrainError
			err := kit.Receive(t, r.Done, "Run's return")
			if !errors.As(err, &d) || d.Unsettled != n || d.Unfinished != 0 {
				t.Errorf("Run = %v, want a *DrainError: %d unsettled", err, n)
			}
			if took := time.Since(began); took > 7*time.Second { // five, and the machine's
				t.Errorf("Run ended after %v, want 5 s", took)
			}
			var lost *consumer.LostError
			if !errors.As(err, &lost) {
				t.Errorf("Run = %v, want it to tell how the subscription was lost", err)
			}
			if log.Count("consumer: ended") != 1 || log.Count("unsettled=3") != 1 {
				t.Error("the log does not tell of the end in one line")
			}
			proxy.Cut()
			proxy.Clear()
			b.ExpectLeft(queue, n)
		})
	}
}

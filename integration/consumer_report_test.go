package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
)

// Three handlers succeed and their acknowledgements get lost, each time in another way.
func TestPromise15AcknowledgementsLostInTheDrainAreReported(t *testing.T) {
	const n = 3
	for name, lose := range map[string]func(p *amqptest.Proxy, r *running, finish func()){
		"before the end of ctx": func(p *amqptest.Proxy, r *running, finish func()) {
			p.Blackhole(amqptest.FromClient)
			finish()
			r.end()
			p.Cut()
		},
		"in the drain": func(p *amqptest.Proxy, r *running, finish func()) {
			p.Blackhole(amqptest.FromClient)
			r.end()
			finish()
			p.Cut()
		},
		"into a black hole": func(p *amqptest.Proxy, r *running, finish func()) {
			p.Blackhole(amqptest.BothDirections)
			finish()
			r.end()
		},
		"with the handlers running": func(p *amqptest.Proxy, r *running, finish func()) {
			r.end()
			p.Cut()
			finish()
		},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := amqptest.StartProxy(t, broker(t).URL())
			b := newConsumerBenchThrough(t, proxy.URL())
			queue := b.queue(nil)
			b.publish(queue, numbers(n)...)
			begun, release, finished := make(chan struct{}, n), make(chan struct{}), make(chan struct{}, n)
			var log logbook
			r := b.start(consumer.Config{Queue: queue, Workers: n, Prefetch: n, DrainTimeout: time.Second, Logger: log.logger()},
				func(context.Context, *consumer.Delivery) error {
					begun <- struct{}{}
					<-release
					finished <- struct{}{}
					return nil
				})
			for range n {
				receive(t, begun, "delivery")
			}
			began := time.Now()
			lose(proxy, r, func() {
				close(release)
				for range n {
					receive(t, finished, "handler")
				}
			})
			var d *consumer.DrainError
			err := receive(t, r.done, "Run's return")
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
			if log.count("consumer: ended") != 1 || log.count("unsettled=3") != 1 {
				t.Error("the log does not tell of the end in one line")
			}
			proxy.Cut()
			proxy.Clear()
			b.expectLeft(queue, n)
		})
	}
}

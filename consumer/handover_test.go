package consumer

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestHandoverCancelsOnlyIfNoDeliveryIsInTransit(t *testing.T) {
	for name, c := range map[string]struct {
		cfg     Config
		handled int // of three deliveries
		last    []method
	}{
		"full prefetch: cancel, then settle": {
			Config{Prefetch: 3, SingleActiveConsumer: true, DrainTimeout: time.Minute}, 3, []method{cancel, ackMethod, qos, closeChannel},
		},
		"prefetch not full: settle, then close": {
			Config{Prefetch: 4, SingleActiveConsumer: true, DrainTimeout: time.Minute}, 3, []method{ackMethod, declareQueue, closeChannel},
		},
		"no time for the third: settle, then close": {
			Config{Prefetch: 3, Exclusive: true, DrainTimeout: 15 * time.Second}, 2, []method{ackMethod, declareQueue, closeChannel},
		},
		"no time before the consumer timeout": {
			Config{Prefetch: 3, SingleActiveConsumer: true, DrainTimeout: time.Minute, Arguments: amqp.Table{"x-consumer-timeout": 25_000}},
			2,
			[]method{ackMethod, declareQueue, closeChannel},
		},
		"ordered by a key": {
			Config{Prefetch: 3, Workers: 3, Key: func(*Delivery) string { return "k" }, DrainTimeout: 15 * time.Second},
			2,
			[]method{ackMethod, declareQueue, closeChannel},
		},
		"not ordered: requeue, then finish": {
			Config{Prefetch: 3, DrainTimeout: time.Minute}, 2, []method{ackMethod, qos, closeChannel},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &connections{quorum: c.cfg.Arguments != nil, on: func(m method, l *link) {
					if m == consume {
						for range 3 {
							l.deliver(nil)
						}
					}
				}}
				handled := 0
				_, end := runOn(t, b, c.cfg, func(context.Context, *Delivery) error {
					time.Sleep(10 * time.Second)
					handled++
					return nil
				})
				if time.Sleep(time.Second); c.handled < 3 {
					time.Sleep(10 * time.Second) // the first duration is known, and the second handler is running
				}
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
				if handled != c.handled {
					t.Errorf("%d handled, want %d", handled, c.handled)
				}
				if n := b.acked(); n != c.handled {
					t.Errorf("%d acknowledged, want %d", n, c.handled)
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				var last []method
				for _, r := range b.requests[len(b.requests)-len(c.last):] {
					last = append(last, r.method)
				}
				if !slices.Equal(last, c.last) {
					t.Errorf("Run ended with %v, want %v", last, c.last)
				}
			})
		})
	}
}

func TestMessageHalfwayToItsDeliveryLimitIsLogged(t *testing.T) {
	for count, want := range map[int64]int{nearLimit - 2: 0, nearLimit - 1: 1} {
		synctest.Test(t, func(t *testing.T) {
			b := &connections{quorum: true}
			b.start.Do(b.run)
			for range 2 {
				if _, err := b.broker.Publish("", "orders", message(nil)); err != nil {
					t.Fatal(err)
				}
			}
			b.onChannel(func(ch *amqp.Channel) error { // fails both
				for range count {
					var ds [2]amqp.Delivery
					for i := range ds {
						var err error
						if ds[i], _, err = ch.Get("orders", false); err != nil {
							return err
						}
					}
					for _, d := range ds {
						if err := d.Reject(true); err != nil {
							return err
						}
					}
				}
				return ch.Close()
			})
			var log logbook
			_, end := runOn(t, b, Config{SingleActiveConsumer: true, DrainTimeout: time.Second, Logger: log.logger()}, func(ctx context.Context, _ *Delivery) error {
				<-ctx.Done()
				return nil
			})
			synctest.Wait()
			_ = end() // a *DrainError
			if n := log.count("x-delivery-limit"); n != want {
				t.Errorf("x-delivery-count %d: %d warnings, want %d", count, n, want)
			}
		})
	}
}

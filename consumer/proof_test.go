package consumer

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

// The connection is lost permanently, some time after the last of five deliveries was acknowledged.
func TestSettlementsStopBeingInDoubtOnceProven(t *testing.T) {
	for name, c := range map[string]struct {
		gap        time.Duration // the interval of deliveries
		later      time.Duration // the time from the last delivery to the loss
		mute       method
		leaderless bool
		asked      int // expected passive declares; 0 means any number
		unsettled  int
	}{
		"at once":                           {later: time.Millisecond, unsettled: 5},
		"not yet read by the broker":        {later: proofEvery - time.Millisecond, unsettled: 5},
		"read, but not yet applied":         {later: 2*proofEvery - time.Millisecond, unsettled: 5},
		"two seconds later":                 {later: 2 * time.Second, asked: 1},
		"an hour later, for one question":   {later: time.Hour, asked: 1},
		"the first ones, in slow traffic":   {gap: 2 * time.Second, later: time.Millisecond, unsettled: 1},
		"in steady traffic":                 {gap: 2 * proofEvery / 5, later: 2 * time.Second, asked: 2},
		"no answer":                         {later: 4 * time.Second, mute: declareQueue, unsettled: 5},
		"no leader":                         {later: time.Hour, leaderless: true, unsettled: 5},
		"no leader, with growing intervals": {later: time.Minute, leaderless: true, asked: 6, unsettled: 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 5
				b := &connections{mute: c.mute}
				b.on = func(m method, l *link) {
					if m == declareQueue && c.leaderless { // the queue reports no consumers
						l.reply(amqptest.MethodFrame(l.last.Load().Channel, 50, 11, "orders", uint32(0), uint32(0)))
					}
					if m != consume {
						return
					}
					var deliver func()
					deliver = func() {
						if l.deliver(nil); l.sent < n {
							time.AfterFunc(c.gap, deliver)
						}
					}
					deliver()
				}
				lost := make(chan struct{})
				cons, err := New(connFunc(func(ctx context.Context) (*amqp.Connection, error) {
					select {
					case <-lost:
						<-ctx.Done()
						return nil, ctx.Err()
					default:
						return b.ConsumeConnection(ctx)
					}
				}), Config{Queue: "orders", Prefetch: 2 * n, Logger: slog.New(slog.DiscardHandler)}, nop)
				if err != nil {
					t.Fatal(err)
				}
				ctx, end := context.WithCancel(t.Context())
				ran := make(chan error, 1)
				go func() { ran <- cons.Run(ctx) }()
				time.Sleep((n-1)*c.gap + c.later)
				close(lost)
				b.mu.Lock()
				b.links[0].cut()
				b.mu.Unlock()
				time.Sleep(2 * time.Nanosecond)
				synctest.Wait()
				end()
				err = <-ran
				b.close()
				var d *DrainError
				if got := errors.As(err, &d); got != (c.unsettled > 0) || got && d.Unsettled != c.unsettled {
					t.Errorf("Run = %v, want %d settlements in doubt", err, c.unsettled)
				}
				if asked := b.count(declareQueue); c.asked > 0 && asked != c.asked {
					t.Errorf("the broker was asked %d times, want %d", asked, c.asked)
				}
			})
		})
	}
}

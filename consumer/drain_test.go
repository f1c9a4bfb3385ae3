package consumer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestDrainErrorCountsMessagesThatMayBeRedelivered(t *testing.T) {
	for name, c := range map[string]struct {
		mute      method
		cut       method // closes the connection when called after the end of ctx
		workers   int
		early     int // of the three handlers return before the end of ctx; the others after the loss
		unsettled int
	}{
		"nothing, if the broker accepted it":              {workers: 3, early: 3, unsettled: 0},
		"nothing, if the broker accepted it in the drain": {workers: 3, early: 1, unsettled: 0},
		"settlements without a later answer":              {mute: cancel, cut: cancel, workers: 3, early: 3, unsettled: 3},
		"results after the loss":                          {mute: cancel, cut: cancel, workers: 3, early: 0, unsettled: 3},
		"deliveries to be requeued":                       {mute: cancel, cut: cancel, workers: 1, early: 0, unsettled: 3},
		"settlements before the loss, results after it":   {mute: cancel, cut: cancel, workers: 3, early: 2, unsettled: 3},
		"only settlements after the cancel":               {mute: qos, cut: ackMethod, workers: 3, early: 2, unsettled: 1},
		"settlements after the cancel, before an answer":  {mute: qos, cut: ackMethod, workers: 3, early: 0, unsettled: 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				var ended atomic.Bool
				b := &connections{}
				b.on = func(m method, l *link) {
					switch {
					case m == consume:
						for range 3 {
							l.deliver(nil)
						}
					case m == c.cut && ended.Load():
						l.cut()
					}
				}
				var begun atomic.Int64
				release := make(chan struct{})
				_, end := runOn(t, b, Config{Workers: c.workers, Prefetch: 3, Logger: log.logger()}, func(context.Context, *Delivery) error {
					if begun.Add(1) > int64(c.early) {
						<-release
					}
					return nil
				})
				synctest.Wait()
				if n := b.acked(); n != c.early {
					t.Fatalf("%d acknowledged, want %d", n, c.early)
				}
				b.mu.Lock()
				b.mute = c.mute
				b.mu.Unlock()
				ended.Store(true)
				time.AfterFunc(time.Second, func() { close(release) })
				err := end()
				if c.unsettled == 0 {
					if err != nil {
						t.Errorf("Run = %v, want nil", err)
					}
					return
				}
				var d *DrainError
				var lost *LostError
				if !errors.As(err, &d) || d.Unsettled != c.unsettled || d.Unfinished != 0 || !errors.As(err, &lost) {
					t.Errorf("Run = %v, want a *DrainError: %d unsettled, and the cause of the loss", err, c.unsettled)
				}
				if n := log.count("consumer: ended"); n != 1 {
					t.Errorf("%d lines at the end, want 1", n)
				}
			})
		})
	}
}

func TestResultsDuringTheOvertimeReachTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
			}
		}}
		_, end := runOn(t, b, Config{DrainTimeout: 10 * time.Second}, func(ctx context.Context, _ *Delivery) error {
			<-ctx.Done()
			time.Sleep(overtime / 2)
			return nil
		})
		synctest.Wait()
		var d *DrainError
		if err := end(); !errors.As(err, &d) || d.Unfinished != 1 || d.Running != 0 || d.Unsettled != 0 {
			t.Errorf("Run = %v, want a *DrainError: 1 unfinished", err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		var last []method
		for _, r := range b.requests[len(b.requests)-3:] {
			last = append(last, r.method)
		}
		if want := []method{ackMethod, qos, closeChannel}; !slices.Equal(last, want) {
			t.Errorf("Run ended with %v, want %v: a settlement, a round trip, channel.close", last, want)
		}
	})
}

// While the leader of the queue is unreachable, basic.cancel is answered late, after the handlers have returned.
func TestResultsAreSettledAfterALateAnswerToTheCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 8
		b := &connections{on: func(m method, l *link) {
			switch m {
			case consume:
				for range n {
					l.deliver(nil)
				}
			case cancel:
				time.Sleep(3 * time.Second)
			}
		}}
		release := make(chan struct{})
		_, end := runOn(t, b, Config{Workers: n, Prefetch: n, DrainTimeout: time.Second}, func(context.Context, *Delivery) error {
			<-release
			return nil
		})
		synctest.Wait()
		time.AfterFunc(10*time.Millisecond, func() { close(release) })
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if got := b.acked(); got != n {
			t.Errorf("%d acknowledged, want %d", got, n)
		}
	})
}

func TestBlockedSettlementDoesNotKeepRunFromReturning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
				l.stalled.Store(true)
			}
		}}
		_, end := runOn(t, b, Config{DrainTimeout: time.Second}, nop)
		synctest.Wait()
		began := time.Now()
		var d *DrainError
		if err := end(); !errors.As(err, &d) || d.Unsettled != 1 {
			t.Errorf("Run = %v, want a *DrainError: 1 unsettled", err)
		}
		if took := time.Since(began); took > callTimeout+time.Second {
			t.Errorf("Run ended after %v, want 5 s", took)
		}
	})
}

func TestRunReportsALossWithoutANewSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			switch m {
			case consume:
				l.deliver(nil)
			case ackMethod:
				l.cut()
			}
		}}
		var up atomic.Bool
		up.Store(true)
		c, err := New(connFunc(func(ctx context.Context) (*amqp.Connection, error) {
			if up.Swap(false) {
				return b.ConsumeConnection(ctx)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}), Config{Queue: "orders", Logger: slog.New(slog.DiscardHandler)}, nop)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var d *DrainError
		if err := c.Run(ctx); !errors.As(err, &d) || d.Unsettled != 1 {
			t.Errorf("Run = %v, want a *DrainError: 1 unsettled", err)
		}
		b.close()
	})
}

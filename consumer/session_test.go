package consumer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

func TestDeliveryUnsettledForALongTimeIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				time.AfterFunc(5*time.Minute, func() { l.deliver(nil) })
			}
		}}
		release := make(chan struct{})
		_, end := runOn(t, b, Config{Logger: log.logger()}, func(context.Context, *Delivery) error { <-release; return nil })
		time.Sleep(5*time.Minute + overdueAfter - time.Second)
		synctest.Wait()
		if n := log.count("unsettled for a long time"); n != 0 {
			t.Error("warned after 14:59 min")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := log.count("unsettled for a long time"); n != 60 {
			t.Errorf("warned %d times within an hour, want 60", n)
		}
		close(release)
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestLateResultIsDroppedAndLoggedWithItsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		release := make(chan struct{})
		var first atomic.Bool
		first.Store(true)
		b := &connections{}
		b.on = func(m method, l *link) {
			if m == consume && first.Swap(false) {
				l.deliver(nil)
				time.AfterFunc(time.Minute, func() { b.broker.CancelConsumers("orders") })
			}
		}
		c, end := runOn(t, b, Config{Logger: log.logger()}, func(context.Context, *Delivery) error { <-release; return Reject(errors.New("no stock")) })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if err := c.Err(); err != nil || b.count(consume) != 2 {
			t.Errorf("Err = %v after %d subscribes, want nil after 2", err, b.count(consume))
		}
		close(release)
		synctest.Wait()
		if n := log.count("result not sent"); n != 1 || log.count("had been unsettled for 1m0s") != 2 { // in the line of the loss and in that of the result
			t.Errorf("%d results logged as not sent, want 1 with the cancel and the time as the cause", n)
		}
		if log.count("the handler's result: rejected: no stock") != 1 || log.count(" result=") != 0 {
			t.Errorf("%s\nhas no error with the handler's result", log.text())
		}
		if n := b.count(rejectMethod); n != 1 {
			t.Errorf("%d rejections sent, want 1 of the redelivery", n)
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestLostErrorNamesThePossibleCausesOfACancel(t *testing.T) {
	for want, err := range map[string]*LostError{
		"the oldest had been unsettled for 30m0s": {Queue: "q", Oldest: 30 * time.Minute},
		"no delivery was unsettled":               {Queue: "q"},
	} {
		if got := err.Error(); !strings.Contains(got, want) || !strings.Contains(got, "cancelled") {
			t.Errorf("%q, want it to contain %q", got, want)
		}
	}
	if got := (&LostError{Queue: "q", Err: amqp.ErrClosed, Oldest: time.Hour}).Error(); strings.Contains(got, "unsettled") {
		t.Errorf("%q, but the broker did not cancel the consumer", got)
	}
}

func TestInvalidDeliveryTagClosesOnlyItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		var subscribed atomic.Int64
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				if subscribed.Add(1) == 1 {
					l.forge(1<<40, nil)
				} else {
					l.deliver(nil)
				}
			}
		}}
		var handled atomic.Int64
		_, end := runOn(t, b, Config{Logger: log.logger()}, func(context.Context, *Delivery) error { handled.Add(1); return nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := subscribed.Load(); n != 2 || handled.Load() != 1 || b.acked() != 1 {
			t.Errorf("%d subscriptions, %d handled, %d acknowledged; want 2, and 1 from the second", n, handled.Load(), b.acked())
		}
		if log.count("invalid delivery tag") != 1 {
			t.Error("the invalid tag was not logged")
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// A logger may use the connection: no batch delays other writes while it runs.
func TestLoggerMayUseTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
			}
		}}
		var asked atomic.Int64
		log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) {
			if !strings.Contains(string(p), "handler failed") {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			ac, _ := b.ConsumeConnection(ctx)
			if _, err := wire.Channel(ctx, ac); err != nil {
				t.Errorf("open a channel in the logger: %v", err)
			}
			asked.Add(1)
		}), nil))
		_, end := runOn(t, b, Config{Logger: log}, func(context.Context, *Delivery) error { return errors.New("boom") })
		synctest.Wait()
		if asked.Load() != 1 {
			t.Errorf("the logger was called %d times for the failure", asked.Load())
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

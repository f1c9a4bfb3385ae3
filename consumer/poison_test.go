package consumer

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestPoisonIsReportedOnceAndTriedEverSlower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		var there atomic.Bool
		there.Store(true)
		b := &fakeBroker{on: func(m method, l *link) {
			if m == consume && there.Load() {
				l.deliver(poison())
			}
		}}
		c, end := runOn(t, b, Config{Logger: log.logger(), Prefetch: 10}, nop)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := b.count(consume); n < 30 || n > 150 {
			t.Errorf("subscribed %d times in 10 minutes, want about 80", n)
		}
		var p *PoisonError
		if err := c.Err(); !errors.As(err, &p) || p.Queue != "orders" || p.Attempts < 30 {
			t.Fatalf("Err = %v, want a *PoisonError for orders", err)
		}
		var cause *amqp.Error
		if !errors.As(p, &cause) || cause.Code != 501 || cause.Server {
			t.Errorf("the cause is %v, want amqp091-go's own 501", cause)
		}
		if n := log.count("level=ERROR"); n != 1 {
			t.Errorf("%d lines at the level of errors, want 1", n)
		}
		if n := log.count("\n"); n > 10 {
			t.Errorf("%d lines at info or above, want few", n)
		}

		there.Store(false)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if err := c.Err(); err != nil {
			t.Errorf("Err = %v with the poison gone, want nil", err)
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// The full prefetch would have RabbitMQ count all that is delivered along with the poison as failed.
func TestWhilePoisonIsSuspectedOneMessageIsTakenAtATime(t *testing.T) {
	for name, after := range map[string]struct {
		first bool          // there is a message
		gap   time.Duration // then others come, so far apart
		takes time.Duration // handling one
		met   int64         // as many messages have been handled when the full prefetch is taken up
	}{
		"idle":              {met: 0},
		"idle after a time": {first: true, takes: 5 * provenAfter / 2, met: 1},
		"busy":              {first: true, gap: provenAfter / 4, met: 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const losses = 5
				var prefetch []uint16
				var met, before atomic.Int64
				early := make(chan struct{})
				b := &fakeBroker{}
				b.on = func(m method, l *link) {
					switch {
					case m == consume && len(l.tags) == 2:
						before.Store(met.Load())
						l.deliverTo(l.tags[0], nil) // what was on its way before the cancel
					case m == consume:
						prefetch = append(prefetch, l.prefetch)
						if len(prefetch) <= losses {
							l.deliver(poison())
							return
						}
						time.AfterFunc(provenAfter/2, func() { close(early) })
						if after.first {
							l.deliver(nil)
						}
					case m == ackMethod && after.gap > 0:
						time.Sleep(after.gap)
						l.deliver(nil)
					}
				}
				c, end := runOn(t, b, Config{Prefetch: 10}, func(context.Context, *Delivery) error {
					time.Sleep(after.takes)
					met.Add(1)
					return nil
				})
				<-early
				var p *PoisonError
				if err := c.Err(); !errors.As(err, &p) {
					t.Errorf("Err = %v before the subscription is clear of the poison", err)
				}
				time.Sleep(10 * provenAfter)
				synctest.Wait()
				if err := c.Err(); err != nil {
					t.Errorf("Err = %v, want nil", err)
				}
				b.mu.Lock()
				var last []method // ending with the cancel
				for _, r := range b.requests {
					if r.method != ackMethod && !slices.Contains(last, cancel) {
						last = append(last, r.method)
					}
				}
				b.mu.Unlock()
				// Never without a consumer: an auto-delete queue would be gone.
				if want := []method{qos, consume, cancel}; !slices.Equal(last[len(last)-3:], want) {
					t.Errorf("the full prefetch was taken up by %v, want %v", last[len(last)-3:], want)
				}
				if l := b.links[len(b.links)-1]; l.prefetch != 10 || len(l.tags) != 2 {
					t.Errorf("the prefetch is %d in the end, want 10", l.prefetch)
				}
				if want := []uint16{10, 10, 10, 1, 1, 1}; !slices.Equal(prefetch, want) {
					t.Errorf("subscribed with prefetch %v, want %v", prefetch, want)
				}
				if n := before.Load(); n != after.met {
					t.Errorf("the full prefetch was taken up after %d messages, want %d", n, after.met)
				}
				if n := met.Load(); n <= after.met {
					t.Errorf("%d messages handled: the one before the cancel was not", n)
				}
				_ = end() // in the busy case the last acknowledgement is unanswered
			})
		})
	}
}

func TestPoisonThatComesAgainAmongOthersIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		b := &fakeBroker{on: func(m method, l *link) {
			switch {
			case m == consume && l.prefetch == 1:
				l.deliver(nil)
			case m == consume, m == ackMethod:
				l.deliver(poison())
			}
		}}
		_, end := runOn(t, b, Config{Logger: log.logger()}, nop)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := b.count(ackMethod); n < 10 {
			t.Errorf("%d messages got past the poison in a minute, want more", n)
		}
		if n := log.count("level=ERROR"); n != 1 {
			t.Errorf("%d lines at the level of errors, want 1", n)
		}
		_ = end() // the last acknowledgement may be in doubt
	})
}

func TestANeighbourOfPoisonThatGetsOnKeepsItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{on: func(m method, l *link) {
			switch m {
			case consume:
				l.deliver(nil)
			case ackMethod:
				l.deliver(poison()) // of somebody else, for all this consumer can tell
			}
		}}
		c, end := runOn(t, b, Config{}, nop)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := b.count(consume); n < 500 {
			t.Errorf("subscribed %d times in 10 s, want a try every 10 ms", n)
		}
		var p *PoisonError
		if err := c.Err(); errors.As(err, &p) {
			t.Errorf("Err = %v, want no *PoisonError", err)
		}
		_ = end() // the last acknowledgement may be in doubt
	})
}

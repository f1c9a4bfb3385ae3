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

func TestPoisonIsReportedAndRetriedWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		var there atomic.Bool
		there.Store(true)
		b := &connections{on: func(m method, l *link) {
			if m == consume && there.Load() {
				l.fail(541)
			}
		}}
		c, end := runOn(t, b, Config{Logger: log.logger(), Prefetch: 10}, nop)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := b.count(consume); n < 40 || n > 200 {
			t.Errorf("subscribed %d times in 10 minutes, want about 100", n)
		}
		var p *PoisonError
		if err := c.Err(); !errors.As(err, &p) || p.Queue != "orders" || p.Attempts < 30 {
			t.Fatalf("Err = %v, want a *PoisonError for orders", err)
		}
		var cause *amqp.Error
		if !errors.As(p, &cause) || cause.Code != 541 || !cause.Server {
			t.Errorf("the cause is %v, want RabbitMQ's 541", cause)
		}
		if n := log.count("level=ERROR"); n < 8 || n > 10 {
			t.Errorf("%d error lines in 10 minutes, want one a minute", n)
		}
		if n := log.count("\n"); n > 20 {
			t.Errorf("%d lines at info or above, want few", n)
		}

		there.Store(false)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if err := c.Err(); err != nil {
			t.Errorf("Err = %v after the poison was removed, want nil", err)
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// With the full prefetch, RabbitMQ would count all messages delivered together with the poison as failed, and the
// other users of the shared connection would lose it again.
func TestSuspectedSubscriptionUsesAPrefetchOfOneAndADedicatedConnection(t *testing.T) {
	for name, after := range map[string]struct {
		cfg   Config
		first bool          // there is a message
		gap   time.Duration // the interval of the messages after it
		takes time.Duration // the duration of a handler
		met   int64         // messages handled when the subscription returns to the full prefetch
		want  []method      // the calls for the full prefetch
		stays bool          // the subscription keeps its dedicated connection
	}{
		"idle":              {want: []method{qos, consume, cancel}},
		"idle after a time": {first: true, takes: 5 * provenAfter / 2, met: 1, want: []method{qos, consume, cancel}},
		"busy":              {first: true, gap: provenAfter / 8, met: 10, want: []method{qos, consume, cancel}},
		"exclusive":         {cfg: Config{Exclusive: true}, want: []method{cancel, qos, consume}},
		"in order":          {cfg: Config{Key: func(*Delivery) string { return "" }}, want: []method{cancel, qos, consume}},
		"declared":          {cfg: Config{Declare: func(context.Context, *amqp.Connection) (string, error) { return "orders", nil }}, want: []method{qos, consume, cancel}, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const losses = 5
				var prefetch []uint16
				var dedicated []bool
				var met, before atomic.Int64
				b := dedicatedConnections{connections: &connections{}}
				b.on = func(m method, l *link) {
					switch {
					case m == consume && len(prefetch) < losses:
						prefetch, dedicated = append(prefetch, l.prefetch()), append(dedicated, l.dedicated)
						l.fail(541)
					case m == consume && l.prefetch() == 1:
						if after.first {
							l.deliver(nil)
						}
					case m == consume:
						before.Store(met.Load())
						prefetch, dedicated = append(prefetch, l.prefetch()), append(dedicated, l.dedicated)
						l.deliver(nil)
					case m == ackMethod && after.gap > 0 && l.prefetch() == 1:
						time.Sleep(after.gap)
						l.deliver(nil)
					}
				}
				cfg := after.cfg
				cfg.Prefetch = 10
				c, end := runOn(t, b, cfg, func(context.Context, *Delivery) error {
					time.Sleep(after.takes)
					met.Add(1)
					return nil
				})
				time.Sleep(provenAfter) // after the fifth loss, before the end of the trial
				var p *PoisonError
				if err := c.Err(); !errors.As(err, &p) || p.Attempts != losses {
					t.Errorf("Err = %v before the end of the trial, want a *PoisonError", err)
				}
				time.Sleep(20 * provenAfter)
				synctest.Wait()
				if err := c.Err(); err != nil {
					t.Errorf("Err = %v, want nil", err)
				}
				b.mu.Lock()
				var last []method // the last calls, up to the cancel
				for _, r := range b.requests {
					if r.method == qos || r.method == consume || r.method == cancel {
						last = append(last, r.method)
					}
				}
				b.mu.Unlock()
				if last[len(last)-1] == qos { // sent to check whether settlements have arrived
					last = last[:len(last)-1]
				}
				// An auto-delete queue must keep a consumer, unless two consumers are not possible.
				if last = last[len(last)-len(after.want):]; !slices.Equal(last, after.want) {
					t.Errorf("calls for the full prefetch: %v, want %v", last, after.want)
				}
				if want := []uint16{10, 1, 1, 1, 1, 10}; !slices.Equal(prefetch, want) {
					t.Errorf("subscribed with prefetch %v, want %v", prefetch, want)
				}
				if want := []bool{false, true, true, true, true, after.stays}; !slices.Equal(dedicated, want) {
					t.Errorf("subscribed over a dedicated connection: %v, want %v", dedicated, want)
				}
				if n := before.Load(); n < after.met || n > after.met+1 {
					t.Errorf("full prefetch after %d messages, want %d", n, after.met)
				}
				if n := met.Load(); n <= after.met {
					t.Errorf("%d messages handled, none with the full prefetch", n)
				}
				for _, l := range b.links {
					if l.dedicated && !l.ac.IsClosed() && !after.stays {
						t.Error("a dedicated connection was not closed")
					}
				}
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

// A broker that refuses further connections must not stop the consumer.
func TestSuspectedSubscriptionFallsBackToTheSharedConnection(t *testing.T) {
	for name, err := range map[string]error{"refused": &amqp.Error{Code: 530, Server: true}, "failed": errors.New("no route to host")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := dedicatedConnections{connections: &connections{}, refuses: err}
				narrow := 0
				b.on = func(m method, l *link) {
					if m == consume && len(b.calls(consume)) == 1 {
						l.fail(541)
					} else if m == consume && l.prefetch() == 1 {
						narrow++
						l.deliver(nil)
					}
				}
				handled := make(chan struct{}, 1)
				_, end := runOn(t, b, Config{}, func(context.Context, *Delivery) error {
					handled <- struct{}{}
					return nil
				})
				<-handled
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if narrow != 1 {
					t.Errorf("%d subscriptions with a prefetch of one, want 1", narrow)
				}
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

func TestOnlyAClosePossiblyCausedByAMessageRaisesTheSuspicion(t *testing.T) {
	for code, want := range map[uint16]uint16{320: 10, 530: 10, 501: 1, 502: 1, 505: 1, 541: 1} {
		if got := prefetchAfter(t, func(l *link) { l.fail(code) }, 1); got != want {
			t.Errorf("after a close with %d: a prefetch of %d, want %d", code, got, want)
		}
	}
	cut := func(l *link) { l.cut() }
	for times, want := range map[int]uint16{1: 10, 2: 1} {
		if got := prefetchAfter(t, cut, times); got != want {
			t.Errorf("after %d lost connections: a prefetch of %d, want %d", times, got, want)
		}
	}
}

// prefetchAfter returns the prefetch of the subscription after the given number of losses.
func prefetchAfter(t *testing.T, lose func(*link), times int) (prefetch uint16) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := &connections{on: func(m method, l *link) {
			if m != consume {
				return
			}
			if n++; n <= times {
				lose(l)
			} else if prefetch == 0 {
				prefetch = l.prefetch()
			}
		}}
		_, end := runOn(t, b, Config{Prefetch: 10}, nop)
		time.Sleep(provenAfter / 2)
		synctest.Wait()
		_ = end()
	})
	return prefetch
}

// A rolling restart of the broker, for example, must not leave slow handlers with a prefetch of one for hours.
func TestSlowHandlersReturnToTheFullPrefetchAfterLossesWithoutAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := dedicatedConnections{connections: &connections{}}
		b.on = func(m method, l *link) {
			switch {
			case m == consume:
				if l.deliver(nil); len(b.calls(consume)) <= repeatedLoss {
					l.cut()
				}
			case m == ackMethod && l.prefetch() == 1:
				l.deliver(nil)
			}
		}
		_, end := runOn(t, b, Config{Prefetch: 10, Workers: 4, DrainTimeout: time.Hour}, func(context.Context, *Delivery) error {
			time.Sleep(10 * time.Minute)
			return nil
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.count(consume); n != repeatedLoss+1 || b.links[len(b.links)-1].prefetch() != 1 {
			t.Fatalf("%d subscriptions, the last with a prefetch of %d, want %d and 1", n, b.links[len(b.links)-1].prefetch(), repeatedLoss+1)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if n := b.count(consume); n != repeatedLoss+2 || b.shared.prefetch() != 10 {
			t.Errorf("%d subscriptions, a prefetch of %d on the shared connection, want %d and 10", n, b.shared.prefetch(), repeatedLoss+2)
		}
		_ = end()
	})
}

// A message that is postponed for a long time would block all others while the prefetch is one.
func TestHeldMessageDoesNotBlockASuspectedSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := dedicatedConnections{connections: &connections{}}
		b.on = func(m method, l *link) {
			if m == consume && len(b.calls(consume)) == 1 {
				l.fail(541)
			} else if m == consume {
				l.deliver(nil)
			}
		}
		_, end := runOn(t, b, Config{Prefetch: 10}, func(context.Context, *Delivery) error { return Requeue(time.Hour) })
		time.Sleep(3 * provenAfter)
		synctest.Wait()
		if b.shared.prefetch() != 10 || b.count(consume) != 3 {
			t.Errorf("a prefetch of %d by subscription %d, want 10 by the third", b.shared.prefetch(), b.count(consume))
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// Several consumers of a queue start in turn, and the first one receives the poison.
func TestConsumerThatStartsAfterALossUsesAPrefetchOfOne(t *testing.T) {
	for age, want := range map[time.Duration]uint16{returnTime / 2: 1, 2 * returnTime: 10} {
		synctest.Test(t, func(t *testing.T) {
			b := dedicatedConnections{connections: &connections{}, lostAt: time.Now().Add(-age), loss: &amqp.Error{Code: 541, Server: true}}
			_, end := runOn(t, b, Config{Prefetch: 10}, nop)
			synctest.Wait()
			if l := b.links[len(b.links)-1]; l.prefetch() != want || l.dedicated != (want == 1) {
				t.Errorf("%v later: a prefetch of %d, dedicated: %v; want %d", age, l.prefetch(), l.dedicated, want)
			}
			time.Sleep(2 * provenAfter)
			synctest.Wait()
			if l := b.links[len(b.links)-1]; b.shared.prefetch() != 10 || want == 1 && !l.ac.IsClosed() {
				t.Errorf("%v later: no return to the full prefetch", age)
			}
			if err := end(); err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

// With a delayed retry or an inactive consumer, the poison is redelivered after the suspicion was dropped.
func TestRelapseExtendsTheSuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := dedicatedConnections{connections: &connections{}}
		full := 0
		b.on = func(m method, l *link) {
			switch {
			case m != consume:
			case l.prefetch() == 1 && len(b.calls(consume))%3 == 2:
				l.fail(541)
			case l.prefetch() > 1:
				full++
				l.fail(541)
			}
		}
		_, end := runOn(t, b, Config{}, nop)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if full < 3 || full > 5 {
			t.Errorf("the full prefetch met the poison %d times in two minutes, want a decreasing rate", full)
		}
		_ = end()
	})
}

func TestConsumerThatMakesProgressKeepsItsBackoffNextToPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			switch m {
			case consume:
				l.deliver(nil)
			case ackMethod:
				l.fail(541) // another consumer of the connection may be the cause
			}
		}}
		c, end := runOn(t, b, Config{}, nop)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := b.count(consume); n < 500 {
			t.Errorf("subscribed %d times in 10 s, want an attempt every 10 ms", n)
		}
		var p *PoisonError
		if err := c.Err(); errors.As(err, &p) {
			t.Errorf("Err = %v, want no *PoisonError", err)
		}
		_ = end() // may report the last acknowledgement as unsettled
	})
}

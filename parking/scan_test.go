package parking_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/topology"
)

// fill declares a queue and publishes n messages from orders with the bodies 0 to n-1.
func (b *bench) fill(q topology.Queue, n int) {
	b.t.Helper()
	b.onConnection(func(ac *amqp.Connection) error {
		return topology.Topology{Queues: []topology.Queue{q}}.Declare(b.t.Context(), ac)
	})
	for i := range n {
		msg := amqp.Publishing{Headers: amqp.Table{history.HeaderQueue: "orders"}, Body: fmt.Append(nil, i)}
		if err := b.producer.Publish(b.t.Context(), "", q.Name, msg); err != nil {
			b.t.Fatal(err)
		}
	}
}

// odd selects the messages with odd bodies.
func odd(m parking.Message) bool {
	body := string(m.Publishing.Body)
	return strings.ContainsAny(body[len(body)-1:], "13579")
}

// RabbitMQ would close the channel that holds the messages which stay. The scan ends earlier and returns all of them.
func TestAReplayThatEndsBeforeTheConsumerTimeoutCanBeRunAgain(t *testing.T) {
	for name, q := range map[string]topology.Queue{
		"no delivery limit":      {Name: "archive", DeliveryLimit: new(topology.Unlimited)},
		"default delivery limit": {Name: "archive"},
		"delivery limit":         {Name: "archive", DeliveryLimit: new(1)},
		"classic":                {Name: "archive", Type: topology.Classic},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *bench) {
				const n = 20
				b.fill(q, n)
				replayed, runs := 0, 0
				for ; runs < 10; runs++ {
					began := time.Now()
					r, err := parking.Replay(b.t.Context(), b.conn, b.producer, parking.ReplayConfig{Queue: q.Name, Match: odd, Rate: 1.0 / 300})
					replayed += r.Replayed
					if err == nil {
						break
					}
					if took := time.Since(began); !errors.Is(err, parking.ErrScanTimeout) || r.Replayed != 2 || took > 10*time.Minute {
						t.Fatalf("Replay = %+v, %v after %v, want two replayed within ten minutes", r, err, took)
					}
				}
				if back, left := bodies(b, "orders"), bodies(b, q.Name); replayed != n/2 || len(back) != n/2 || len(left) != n/2 || runs != 4 {
					t.Errorf("%d replayed after %d runs that ended early, %d are back and %d stayed", replayed, runs, len(back), len(left))
				}
			})
		})
	}
}

// dial returns another Conn, whose connections go through wrap.
func (b *bench) dial(wrap func(net.Conn) net.Conn) *amqpkit.Conn {
	b.t.Helper()
	conn, err := amqpkit.DialConfig(b.t.Context(), amqpkit.Config{URLs: []string{b.URL()}, Logger: quiet, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := b.Dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return wrap(nc), nil
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// A link to a broker whose writes can be held up, for a while each or for good.
type slowness struct {
	delay   atomic.Int64
	stalled atomic.Bool
}

type slowLink struct {
	net.Conn
	*slowness
	closed chan struct{}
	close  func()
}

func (l *slowLink) Write(p []byte) (int, error) {
	if l.stalled.Load() {
		<-l.closed
		return 0, net.ErrClosed
	}
	time.Sleep(time.Duration(l.delay.Load()))
	return l.Conn.Write(p)
}

func (l *slowLink) Close() error {
	l.close()
	return l.Conn.Close()
}

// slow returns a Conn that uses slowLinks.
func (b *bench) slow() (*amqpkit.Conn, *slowness) {
	b.t.Helper()
	s := &slowness{}
	return b.dial(func(nc net.Conn) net.Conn {
		closed := make(chan struct{})
		return &slowLink{nc, s, closed, sync.OnceFunc(func() { close(closed) })}
	}), s
}

type publisherFunc func() error

func (f publisherFunc) RepublishAsync(context.Context, string, string, amqp.Publishing) (outcome, error) {
	return func(context.Context) error { return f() }, nil
}

func TestAReplayOnAStalledConnectionEndsWithItsContext(t *testing.T) {
	for name, ends := range map[string]time.Duration{"at once": 0, "later": 2 * s} {
		for name, chosen := range map[string]bool{name + ", acknowledging": true, name + ", giving back": false} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(b *bench) {
					b.park(3)
					conn, link := b.slow()
					ctx, cancel := context.WithCancel(b.t.Context())
					defer cancel()
					began := time.Now()
					r, err := parking.Replay(ctx, conn, publisherFunc(func() error { return nil }), parking.ReplayConfig{Queue: "orders.parked", Match: func(parking.Message) bool {
						if !link.stalled.Swap(true) {
							time.AfterFunc(ends, cancel)
						}
						return chosen
					}})
					if took := time.Since(began) - ends; err == nil || r.Replayed != 0 || took > 250*time.Millisecond {
						t.Errorf("Replay = %+v, %v, %v after the end of its ctx", r, err, took)
					}
					if left := b.messages("orders.parked", time.Minute); len(left) != 3 {
						t.Errorf("%d are parked, want 3", len(left))
					}
				})
			})
		}
	}
}

// Its consumers would lose their connection.
func TestTheEndOfAScansContextDoesNotCostAHealthyConnection(t *testing.T) {
	bubble(t, func(b *bench) {
		b.park(64)
		conn, link := b.slow()
		link.delay.Store(int64(30 * time.Millisecond))
		before, err := conn.ConsumeConnection(b.t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(b.t.Context(), 500*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := parking.Peek(ctx, conn, "orders.parked", 64); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Peek = %v", err)
		}
		if took := time.Since(began); took > 750*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if before.IsClosed() {
			t.Error("the connection is lost")
		}
		if left := b.messages("orders.parked", s); len(left) != 64 {
			t.Errorf("%d are parked, want 64", len(left))
		}
	})
}

func TestReplayKeepsTheOrderOfTheQueue(t *testing.T) {
	bubble(t, func(b *bench) {
		const n = 500
		b.fill(topology.Queue{Name: "archive"}, n)
		for _, c := range []parking.ReplayConfig{{Limit: n / 2}, {Rate: 1000}} {
			c.Queue = "archive"
			if _, err := parking.Replay(b.t.Context(), b.conn, b.producer, c); err != nil {
				t.Fatal(err)
			}
		}
		back := bodies(b, "orders")
		for i, body := range back {
			if body != fmt.Sprint(i) {
				t.Fatalf("at %d of %d is %s", i, len(back), body)
			}
		}
		if len(back) != n {
			t.Errorf("%d are back, want %d", len(back), n)
		}
	})
}

func TestReplaySkipsWhatCannotBePublished(t *testing.T) {
	bubble(t, func(b *bench) {
		b.park(3)
		for name, to := range map[string]string{"returned": "nowhere", "refused": strings.Repeat("x", 256)} {
			r, err := parking.Replay(b.t.Context(), b.conn, b.producer, parking.ReplayConfig{
				Queue: "orders.parked", To: func(parking.Message) (string, string) { return "", to },
			})
			if err == nil || r.Replayed != 0 || r.Skipped != 3 || !strings.Contains(err.Error(), "stays parked") {
				t.Errorf("%s: Replay = %+v, %v", name, r, err)
			}
		}
		if left := bodies(b, "orders.parked"); len(left) != 3 {
			t.Errorf("%d are parked, want 3", len(left))
		}
	})
}

func TestReplayToTheParkingQueueItselfEnds(t *testing.T) {
	bubble(t, func(b *bench) {
		b.park(100)
		r, err := b.replay(parking.ReplayConfig{To: func(parking.Message) (string, string) { return "", "orders.parked" }})
		if err != nil || r.Replayed != 100 || len(bodies(b, "orders.parked")) != 100 {
			t.Errorf("Replay = %+v, %v, %d are parked", r, err, len(bodies(b, "orders.parked")))
		}
	})
}

func TestReplayTakesAnyRateThatIsOne(t *testing.T) {
	bubble(t, func(b *bench) {
		for _, rate := range []float64{-1, math.NaN(), math.Inf(-1)} {
			if _, err := b.replay(parking.ReplayConfig{Rate: rate}); len(fieldErrors(err)) != 1 {
				t.Errorf("Rate %v: %v", rate, err)
			}
		}
		for rate, least := range map[float64]time.Duration{math.Inf(1): 0, 1e300: 0, 1e12: 0, 1000: 64 * time.Millisecond, 0.01: 12_700 * s} {
			b.park(128)
			began, batches := time.Now(), 0
			r, err := b.replay(parking.ReplayConfig{Rate: rate, Progress: func(parking.ReplayResult) { batches++ }})
			if took := time.Since(began); err != nil || r.Replayed != 128 || took < least || took > least+s || rate >= 1000 && batches != 2 {
				t.Errorf("Rate %v: %+v, %v in %v and %d batches, want %v", rate, r, err, took, batches, least)
			}
			b.onConnection(func(ac *amqp.Connection) error {
				ch, err := ac.Channel()
				if err != nil {
					return err
				}
				_, err = ch.QueuePurge("orders", false)
				return errors.Join(err, ch.Close())
			})
			synctest.Wait()
		}
		b.park(2)
		began := time.Now()
		if r, err := b.replay(parking.ReplayConfig{Rate: 1e-300}); err != nil || r.Replayed != 2 || time.Since(began) < 24*time.Hour {
			t.Errorf("a tiny rate: %+v, %v in %v, want one a day", r, err, time.Since(began))
		}
	})
}

// RabbitMQ closes the connection of the scan over a message. The messages of earlier batches that stay are read and counted once more.
func TestAReplayStartsAgainAfterItsConnectionWasClosed(t *testing.T) {
	bubble(t, func(b *bench) {
		b.fill(topology.Queue{Name: "archive"}, 100)
		closed := false
		r, err := parking.Replay(b.t.Context(), b.conn, b.producer, parking.ReplayConfig{Queue: "archive", Match: func(m parking.Message) bool {
			if string(m.Publishing.Body) == "80" && !closed {
				closed = true
				b.CloseConnections(amqp.InternalError, "INTERNAL_ERROR")
			}
			return odd(m)
		}})
		if want := (parking.ReplayResult{Total: 100, Replayed: 50, Kept: 50}); err != nil || r != want || !closed {
			t.Errorf("Replay = %+v, %v, want %+v", r, err, want)
		}
		if back, left := bodies(b, "orders"), bodies(b, "archive"); len(back) != 50 || len(left) != 50 {
			t.Errorf("%d are back and %d stayed, want 50 each", len(back), len(left))
		}
	})
}

func TestWalkStopsAtAnErrorAndLeavesTheMessages(t *testing.T) {
	bubble(t, func(b *bench) {
		b.fill(topology.Queue{Name: "archive", DeliveryLimit: new(topology.Unlimited)}, 5)
		enough := errors.New("enough")
		var seen []string
		err := parking.Walk(b.t.Context(), b.conn, "archive", math.MaxInt, func(m parking.Message) error {
			if seen = append(seen, string(m.Publishing.Body)); len(seen) == 3 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || fmt.Sprint(seen) != "[0 1 2]" || len(bodies(b, "archive")) != 5 {
			t.Errorf("Walk = %v after %v, left %v", err, seen, bodies(b, "archive"))
		}
	})
}

func TestMessageWithoutARecordHasTheAddressOfItsDelivery(t *testing.T) {
	bubble(t, func(b *bench) {
		b.fill(topology.Queue{Name: "plain"}, 0)
		if err := b.producer.Publish(b.t.Context(), "", "plain", amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		messages, err := parking.Peek(b.t.Context(), b.conn, "plain", 1)
		if err != nil || len(messages) != 1 || messages[0].Queue != "" || messages[0].Key != "plain" {
			t.Errorf("Peek = %+v, %v", messages, err)
		}
	})
}

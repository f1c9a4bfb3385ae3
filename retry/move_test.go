package retry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// deleteQueue deletes a queue as an operator would, under a consumer that is subscribed: its connection has
// declared the plan before.
func (b *bench) deleteQueue(name string) {
	b.t.Helper()
	synctest.Wait()
	b.onConnection(func(ac *amqp.Connection) error {
		ch, err := ac.Channel()
		if err != nil {
			return err
		}
		_, err = ch.QueueDelete(name, false, false, false)
		return errors.Join(err, ch.Close())
	})
}

// declare declares the plan again.
func (b *bench) declare() {
	b.t.Helper()
	b.onConnection(func(ac *amqp.Connection) error { return b.plan.Declare(b.t.Context(), ac) })
}

func (b *bench) onConnection(do func(*amqp.Connection) error) {
	b.t.Helper()
	ac, err := b.conn.PublishConnection(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := do(ac); err != nil {
		b.t.Fatal(err)
	}
}

// held expects the message in the source queue, ready or unacknowledged.
func (b *bench) held(after time.Duration) {
	b.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	if q, _ := b.Queue("orders"); q.Ready+q.Unacked != 1 {
		b.t.Errorf("the original is not in its queue: %+v", q)
	}
}

func TestAMessageStaysWhileItsParkingQueueIsMissing(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		var got calls
		b.run(got.fail(errBoom))
		b.deleteQueue("orders.parked")
		b.publish(amqp.Publishing{Body: []byte("m")})
		b.held(15 * s) // once in its queue, where it stays
		b.held(time.Hour)
		b.declare()
		m := b.parked(time.Minute)
		if string(m.Body) != "m" || got.count() != 2 || m.Headers[history.HeaderAttempts] != int64(2) {
			t.Errorf("parked %q after %d calls and %v attempts, want 2", m.Body, got.count(), m.Headers[history.HeaderAttempts])
		}
	})
}

// It waits in its own queue for the same delay.
func TestAMessageWaitsInItsQueueWhileItsWaitQueueIsMissing(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(time.Minute)}, func(b *bench) {
		var got calls
		b.run(got.fail(errBoom))
		b.deleteQueue("orders.wait.1m")
		b.publish(amqp.Publishing{Body: []byte("m")})
		b.held(59 * s)
		if got.count() != 1 {
			t.Fatalf("%d calls within the delay, want 1", got.count())
		}
		m := b.parked(time.Minute)
		if gaps := got.gaps(); got.count() != 2 || gaps[0] > time.Minute+lastHold || m.Headers[history.HeaderAttempts] != int64(2) {
			t.Errorf("parked after calls at distances of %v and %v attempts, want 2, a minute apart, and a hold more", gaps, m.Headers[history.HeaderAttempts])
		}
	})
}

const lastHold = 30 * s // see MoveError

// A message with its own TTL would expire in its queue; its copy at the tail does not.
func TestAMessageWithATTLStaysWhileItsParkingQueueIsMissing(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s).MaxAttempts(1)}, func(b *bench) {
		var got calls
		b.run(got.fail(errBoom))
		b.deleteQueue("orders.parked")
		b.publish(amqp.Publishing{Expiration: "2000"})
		b.held(time.Minute)
		b.declare()
		if m := b.parked(time.Minute); got.count() != 1 || m.Headers[history.HeaderExpiration] != "2000" {
			t.Errorf("%d calls, parked %v; want one, and the expiration in the record", got.count(), m.Headers)
		}
	})
}

// The attempts have growing intervals.
func TestAnAttemptIsRepeatedWhileNoQueueAcceptsTheMessage(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(time.Minute)}, func(b *bench) {
		var got calls
		b.publish(amqp.Publishing{Body: []byte("m")})
		b.NackNext(6) // the move and the way to the tail of its own queue, each time
		b.run(got.fail(errBoom))
		b.held(20 * s)
		b.parked(3 * time.Minute)
		if gaps := got.gaps(); !slices.Equal(got.attempts, []int{1, 1, 1, 1, 2}) || !slices.Equal(gaps, []time.Duration{s, lastHold, lastHold, time.Minute}) {
			t.Errorf("attempts %v at distances of %v", got.attempts, gaps)
		}
	})
}

func TestTheOriginalIsAcknowledgedAfterItsCopyIsConfirmed(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(time.Hour)}, func(b *bench) {
		var got calls
		b.publish(amqp.Publishing{Body: []byte("m")})
		b.HoldConfirms()
		b.run(got.fail(errBoom))
		b.held(20 * s)
		if q, _ := b.Queue("orders.wait.1h"); q.Ready != 1 {
			t.Errorf("the copy is not there: %+v", q)
		}
		b.ReleaseConfirms()
		time.Sleep(s)
		if q, _ := b.Queue("orders"); q.Ready+q.Unacked != 0 {
			t.Errorf("the original is still there: %+v", q)
		}
	})
}

// If the confirm is lost, there are two copies with one id, each within the policy.
func TestACopyWithALostConfirmIsMadeAgainWithTheSameID(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		var got calls
		b.publish(amqp.Publishing{MessageId: "id"})
		b.HoldConfirms()
		b.run(got.fail(errBoom))
		b.held(s)
		b.DropConnections()
		b.ReleaseConfirms()
		ms := b.messages("orders.parked", time.Hour)
		if len(ms) < 2 {
			t.Fatalf("%d are parked, want the two copies", len(ms))
		}
		for _, m := range ms {
			if m.MessageID != "id" || m.Headers[history.HeaderAttempts] != int64(2) {
				t.Errorf("parked %s after %v attempts, want id after 2", m.MessageID, m.Headers[history.HeaderAttempts])
			}
		}
		if slices.Max(got.attempts) != 2 {
			t.Errorf("attempts %v, want 2 at most", got.attempts)
		}
	})
}

func TestAWaitBeyondTheDrainTimeEndsAtOnceAndTheMessageStays(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(5 * time.Minute), MaxInProcessDelay: 5 * time.Minute}, func(b *bench) {
		var got calls
		end := b.begin(got.fail(errBoom), func(c *consumer.Config) { c.DrainTimeout = time.Minute })
		b.publish(amqp.Publishing{})
		time.Sleep(time.Minute)
		began := time.Now()
		err := end()
		if took := time.Since(began); err != nil || took > s {
			t.Errorf("Run = %v after %v, want nil at once", err, took)
		}
		b.held(0)
	})
}

func TestAWaitThatEndsWithinTheDrainTimeEndsWithItsAttempt(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(5 * time.Minute), MaxInProcessDelay: 5 * time.Minute}, func(b *bench) {
		var got calls
		end := b.begin(got.fail(errBoom), func(c *consumer.Config) { c.DrainTimeout = time.Minute })
		b.publish(amqp.Publishing{})
		time.Sleep(5*time.Minute - 20*s)
		began := time.Now()
		err := end()
		if took := time.Since(began).Truncate(s); err != nil || took != 20*s || got.count() != 2 {
			t.Errorf("Run = %v after %v and %d attempts, want nil after 20 s and 2", err, took, got.count())
		}
		if q, _ := b.Queue("orders"); q.Ready+q.Unacked != 0 {
			t.Errorf("the queue keeps %+v", q)
		}
	})
}

func TestTheEndOfTheDrainTimeIsNotAFailureOfTheMessage(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(time.Hour)}, func(b *bench) {
		end := b.begin(func(ctx context.Context, _ *consumer.Delivery) error {
			<-ctx.Done()
			return fmt.Errorf("query: %w", ctx.Err())
		}, func(c *consumer.Config) { c.DrainTimeout = s })
		b.publish(amqp.Publishing{})
		synctest.Wait()
		_ = end() // a DrainError
		b.held(s)
		if q, _ := b.Queue("orders.wait.1h"); q.Ready != 0 {
			t.Errorf("a copy waits: %+v", q)
		}
		if ms := b.Messages("orders"); len(ms) == 1 && ms[0].Headers["x-delivery-count"] != nil {
			t.Errorf("it counts as failed: %v", ms[0].Headers)
		}
		var got calls
		b.run(got.fail(nil))
		time.Sleep(s)
		if got.count() != 1 || got.attempts[0] != 1 {
			t.Errorf("then attempts %v, want the first again", got.attempts)
		}
	})
}

func TestADeadlineAroundTheMiddlewareDoesNotKeepTheMessage(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		var got calls
		b.run(func(ctx context.Context, d *consumer.Delivery) error {
			<-ctx.Done()
			return got.fail(context.Cause(ctx))(ctx, d)
		}, func(c *consumer.Config) { c.Middleware = slices.Insert(c.Middleware, 0, consumer.Timeout(s)) })
		b.publish(amqp.Publishing{})
		if b.parked(time.Minute); got.count() != 2 {
			t.Errorf("%d calls, want 2", got.count())
		}
	})
}

func TestAMoveErrorNamesTheTargetAndTheCause(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s), Logger: quiet})
	refuses := publisher(func() error { return fmt.Errorf("x: %w", producer.ErrNacked) })
	h := plan.Middleware(refuses)(fails(errBoom))
	err := h(t.Context(), &consumer.Delivery{Queue: "orders"})
	var failed *retry.MoveError
	var requeue *consumer.RequeueError
	if !errors.As(err, &failed) || failed.Queue != "orders.wait.1s" || !errors.Is(err, producer.ErrNacked) || !errors.As(err, &requeue) || requeue.After != s {
		t.Errorf("%#v: %v", err, err)
	}
	called := false
	err = plan.Middleware(refuses)(func(context.Context, *consumer.Delivery) error { called = true; return nil })(t.Context(), &consumer.Delivery{Queue: "invoices"})
	var wrong *amqperr.FieldError
	if !errors.As(err, &wrong) || !errors.As(err, &requeue) || called {
		t.Errorf("a delivery of another queue: %v, handler called: %v", err, called)
	}
}

type publisher func() error

func (p publisher) Republish(context.Context, string, string, amqp.Publishing) error { return p() }

// The message is redelivered, so that a copy would be a duplicate.
func TestAStaleFailureMakesNoCopy(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		var got calls
		fail := make(chan struct{})
		b.run(func(ctx context.Context, d *consumer.Delivery) error {
			if !d.Redelivered {
				<-fail
			}
			return got.fail(errBoom)(ctx, d)
		}, func(c *consumer.Config) { c.Workers = 2 })
		b.publish(amqp.Publishing{})
		synctest.Wait()
		b.DropConnections()
		time.Sleep(s)
		close(fail)
		if ms := b.messages("orders.parked", time.Minute); len(ms) != 1 || !slices.Equal(got.attempts, []int{1, 1, 2}) {
			t.Errorf("%d are parked after attempts %v, want one after 1, 1 and 2", len(ms), got.attempts)
		}
	})
}

func TestForgedHeadersNeverExceedThePolicy(t *testing.T) {
	for name, c := range map[string]struct {
		headers amqp.Table
		calls   int
	}{
		"negative":        {amqp.Table{history.HeaderQueue: "orders", history.HeaderAttempts: int64(-100)}, 2},
		"huge":            {amqp.Table{history.HeaderQueue: "orders", history.HeaderAttempts: int64(1) << 62}, 0},
		"a string":        {amqp.Table{history.HeaderQueue: "orders", history.HeaderAttempts: "1"}, 2},
		"of another":      {amqp.Table{history.HeaderQueue: "invoices", history.HeaderAttempts: int64(7)}, 2},
		"one":             {amqp.Table{history.HeaderQueue: "orders", history.HeaderAttempts: int64(1)}, 1},
		"no time":         {amqp.Table{history.HeaderQueue: "orders", history.HeaderAttempts: int64(1), history.HeaderFirstFailure: "soon", history.HeaderHistory: 7}, 1},
		"the broker's":    {amqp.Table{"x-delivery-count": int64(50), "x-acquired-count": int64(50)}, 2},
		"in a far future": {amqp.Table{history.HeaderQueue: "orders", history.HeaderAttempts: int64(1), history.HeaderFirstFailure: "2999-01-01T00:00:00.000Z"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
				var got calls
				b.run(got.fail(errBoom))
				b.publish(amqp.Publishing{Headers: c.headers})
				if b.parked(time.Minute); got.count() != c.calls {
					t.Errorf("%d calls, want %d", got.count(), c.calls)
				}
			})
		})
	}
}

// With CC in its headers, a message published to the default exchange would reach other queues too.
func TestACopyIsRoutedNowhereElse(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		b.onConnection(func(ac *amqp.Connection) error {
			return topology.Topology{Queues: []topology.Queue{{Name: "audit"}}}.Declare(b.t.Context(), ac)
		})
		var ccs []any
		var got calls
		b.run(func(ctx context.Context, d *consumer.Delivery) error {
			ccs = append(ccs, fmt.Sprint(d.Headers["CC"]))
			return got.fail(errBoom)(ctx, d)
		})
		b.publish(amqp.Publishing{Headers: amqp.Table{"CC": []any{"audit"}}})
		time.Sleep(time.Minute)
		synctest.Wait()
		ms := b.Messages("orders.parked")
		if n := len(b.Messages("audit")); n != 1 || len(ms) != 1 || fmt.Sprint(ms[0].Headers[history.HeaderCC]) != "[audit]" {
			t.Errorf("%d copies in the other queue, want 1; parked %v", n, ms)
		}
		if !slices.Equal(ccs, []any{"[audit]", "[audit]"}) {
			t.Errorf("the handler saw CC %v", ccs)
		}
	})
}

func TestDeclareVerifiesAQueueThatItDoesNotDeclare(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		b.onConnection(func(ac *amqp.Connection) error {
			plan := planned(t, retry.Config{Queue: "invoices", Policy: retry.Schedule(s)})
			var missing *topology.MissingError
			if err := plan.Declare(b.t.Context(), ac); !errors.As(err, &missing) || missing.Object != `queue "invoices"` {
				t.Errorf("Declare = %v, want a MissingError", err)
			}
			plan = planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s)}) // there, with arguments of its own
			return plan.Declare(b.t.Context(), ac)
		})
	})
}

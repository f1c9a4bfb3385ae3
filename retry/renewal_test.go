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

// A mover is a Publisher that remembers what it moved, and cannot reach some queues.
type mover struct {
	away  []string
	moved []move
	tried int
}

type move struct {
	queue string
	msg   amqp.Publishing
}

func (m *mover) Republish(_ context.Context, _, key string, msg amqp.Publishing) error {
	m.tried++
	if slices.Contains(m.away, key) {
		return fmt.Errorf("%s: %w", key, producer.ErrNacked)
	}
	m.moved = append(m.moved, move{key, msg})
	return nil
}

// counted is a delivery that RabbitMQ has counted as given back before.
func counted(d amqp.Delivery) *consumer.Delivery {
	if d.Headers == nil {
		d.Headers = amqp.Table{}
	}
	d.Headers["x-delivery-count"], d.Redelivered = int64(1), true
	return &consumer.Delivery{Delivery: d, Queue: "orders"}
}

// again is a delivery of what was moved.
func again(m move) *consumer.Delivery {
	return &consumer.Delivery{Delivery: amqp.Delivery{MessageId: m.msg.MessageId, Headers: m.msg.Headers, Body: m.msg.Body}, Queue: m.queue}
}

// RabbitMQ before 4.3 counts what is given back, and drops a message that reaches its delivery limit.
func TestAMessageWhoseReturnsAreCountedBeginsAnewInItsQueue(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		away string
	}{
		"its wait queue is away":    {errBoom, "orders.wait.10s"},
		"its parking queue is away": {amqperr.Permanent(errBoom), "orders.parked"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
				m := &mover{away: []string{c.away}}
				var got calls
				h := plan.Middleware(m)(got.fail(c.err))
				if err := h(t.Context(), counted(amqp.Delivery{MessageId: "id", Body: []byte("m")})); err != nil || len(m.moved) != 1 || m.moved[0].queue != "orders" {
					t.Fatalf("%v; moved %v, want it in its own queue", err, m.moved)
				}
				var hop *retry.MoveError
				if err := h(t.Context(), again(m.moved[0])); !errors.As(err, &hop) || hop.Queue != c.away {
					t.Fatalf("%v, want it given back: that was not counted yet", err)
				}
				m.away = nil
				time.Sleep(s)
				if err := h(t.Context(), again(m.moved[0])); err != nil || len(m.moved) != 2 || m.moved[1].queue != c.away {
					t.Fatalf("%v; moved %v, want it in %s in the end", err, m.moved, c.away)
				}
				if got.count() != 1 || m.moved[1].msg.MessageId != "id" || m.moved[1].msg.Headers[history.HeaderAttempts] != int64(1) {
					t.Errorf("%d calls, moved %+v; want one call, and the message after one attempt", got.count(), m.moved[1].msg)
				}
			})
		})
	}
}

// What a message owes is in its headers: another process calls no handler for it.
func TestAnotherProcessKnowsWhatAMessageOwes(t *testing.T) {
	m := &mover{away: []string{"orders.parked"}}
	var got calls
	process := func() consumer.Handler {
		return planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet}).Middleware(m)(got.fail(amqperr.Permanent(errBoom)))
	}
	if err := process()(t.Context(), &consumer.Delivery{Queue: "orders"}); err != nil || len(m.moved) != 1 || m.moved[0].queue != "orders" {
		t.Fatalf("%v; moved %v, want it in its own queue", err, m.moved)
	}
	m.away = nil
	if err := process()(t.Context(), again(m.moved[0])); err != nil || m.moved[1].queue != "orders.parked" || got.count() != 1 {
		t.Errorf("%v; moved %v after %d calls, want it parked after one", err, m.moved[1:], got.count())
	}
}

// The wait it owed was over in its own queue.
func TestAMessageThatBeganAnewIsTriedAgainWhenItsWaitIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
		m := &mover{away: []string{"orders.wait.10s"}}
		var got calls
		h := plan.Middleware(m)(got.fail(errBoom))
		if err := h(t.Context(), counted(amqp.Delivery{})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * s)
		if err := h(t.Context(), again(m.moved[0])); err != nil || !slices.Equal(got.attempts, []int{1, 2}) || m.moved[1].queue != "orders.parked" {
			t.Errorf("%v; attempts %v, moved to %s; want it parked after 1 and 2", err, got.attempts, m.moved[1].queue)
		}
	})
}

// A hop without an answer may have been made.
func TestAMessageDoesNotBeginAnewWhileRabbitMQDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
		var queues []string
		to := publishing(func(ctx context.Context, queue string, _ amqp.Publishing) error {
			if queues = append(queues, queue); len(queues) == 3 {
				return nil
			}
			<-ctx.Done()
			return errors.Join(producer.ErrUnconfirmed, context.Cause(ctx))
		})
		err := plan.Middleware(to)(fails(errBoom))(t.Context(), counted(amqp.Delivery{}))
		if want := "orders.wait.10s"; err != nil || !slices.Equal(queues, []string{want, want, want}) {
			t.Errorf("%v, moved to %q, want %s each time", err, queues, want)
		}
	})
}

// However often it begins anew, its wait ends when it would have.
func TestAWaitEndsAlsoWhereTheMessageBeginsAnewAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10*s, time.Hour), Logger: quiet})
		m := &mover{away: []string{"orders.wait.10s"}}
		var got calls
		h := plan.Middleware(m)(got.fail(errBoom))
		d := &consumer.Delivery{Queue: "orders"}
		for range 12 {
			if err := h(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			time.Sleep(s)
			d = counted(again(m.moved[len(m.moved)-1]).Delivery)
		}
		if gaps := got.gaps(); got.count() < 2 || gaps[0] != 10*s {
			t.Errorf("%d calls at distances of %v, want the second after 10 s", got.count(), gaps)
		}
	})
}

// The deadline of a Timeout around the middleware does not end that.
func TestAMessageIsKeptBeyondADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
		tried := 0
		to := publishing(func(context.Context, string, amqp.Publishing) error {
			if tried++; tried == 10 {
				return nil
			}
			return producer.ErrNacked
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*s)
		defer cancel()
		if err := plan.Middleware(to)(fails(errBoom))(ctx, counted(amqp.Delivery{})); err != nil || tried != 10 {
			t.Errorf("%v after %d tries; want it moved by the tenth, beyond the deadline", err, tried)
		}
	})
}

func TestAMessageWhoseReturnsAreCountedIsKeptWhereNothingTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
		m := &mover{away: []string{"orders.wait.10s", "orders"}}
		var got calls
		h := plan.Middleware(m)(got.fail(errBoom))
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 1)
		go func() { results <- h(ctx, counted(amqp.Delivery{})) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case err := <-results:
			t.Fatalf("%v after %d tries, want it kept", err, m.tried)
		default:
		}
		cancel() // the drain time is over
		var hop *retry.MoveError
		if err := <-results; !errors.As(err, &hop) || got.count() != 1 || m.tried < 100 {
			t.Errorf("%v after %d calls and %d tries, want it given back after one and many", err, got.count(), m.tried)
		}
	})
}

// A message with a TTL might expire when it is given back.
func TestAMessageWithATTLIsKeptWhileRabbitMQDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
		tries := 0
		to := publishing(func(ctx context.Context, _ string, _ amqp.Publishing) error {
			if tries++; tries == 4 {
				return nil
			}
			<-ctx.Done()
			return errors.Join(producer.ErrUnconfirmed, context.Cause(ctx))
		})
		d := &consumer.Delivery{Delivery: amqp.Delivery{Expiration: "1000"}, Queue: "orders"}
		if err := plan.Middleware(to)(fails(errBoom))(t.Context(), d); err != nil || tries != 4 {
			t.Errorf("%v after %d tries, want it moved by the fourth", err, tries)
		}
	})
}

// It is so on a broker too: what was counted does not grow.
func TestTheCountOfAMessageThatCannotLeaveDoesNotGrow(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		var got calls
		end := b.run(got.fail(errBoom))
		synctest.Wait() // its connection is up, and stays
		end()
		b.publish(amqp.Publishing{Body: []byte("m")})
		b.onConnection(func(ac *amqp.Connection) error {
			ch, err := ac.Channel()
			if err != nil {
				return err
			}
			d, _, err := ch.Get("orders", false)
			return errors.Join(err, d.Reject(true), ch.Close())
		})
		b.deleteQueue("orders.wait.10s")
		end = b.run(got.fail(errBoom))
		b.held(5 * s)
		end()
		if ms := b.Messages("orders"); len(ms) != 1 || ms[0].Headers["x-delivery-count"] != nil {
			t.Errorf("the queue has %+v, want a message that counts as new", ms)
		}
		b.declare()
		b.run(got.fail(errBoom))
		if b.parked(time.Minute); got.count() != 2 {
			t.Errorf("%d calls, want 2", got.count())
		}
	})
}

// What is given back comes to the head: as many as the consumer takes at a time would hold up all others.
func TestMessagesThatCannotLeaveDoNotHoldUpOthers(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s).MaxAttempts(1)}, func(b *bench) {
		handled := false
		b.run(func(_ context.Context, d *consumer.Delivery) error {
			if string(d.Body) == "good" {
				handled = true
				return nil
			}
			return errBoom
		}, func(c *consumer.Config) { c.Prefetch = 4 })
		b.deleteQueue("orders.parked")
		for range 10 {
			b.publish(amqp.Publishing{Body: []byte("bad")})
		}
		time.Sleep(5 * time.Minute)
		b.publish(amqp.Publishing{Body: []byte("good")})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if q, _ := b.Queue("orders"); !handled || q.Ready+q.Unacked != 10 {
			t.Errorf("the good one is handled: %v; %+v", handled, q)
		}
	})
}

// Whichever process has the message next waits longer.
func TestTheHoldGrowsWithTheTimeSinceTheFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s).MaxAttempts(1), Logger: quiet})
		m := &mover{away: []string{"orders.parked"}}
		h := plan.Middleware(m)(fails(errBoom))
		d := &consumer.Delivery{Queue: "orders"}
		var holds []time.Duration
		for range 10 {
			if err := h(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			d = again(m.moved[len(m.moved)-1])
			var requeue *consumer.RequeueError
			if err := h(t.Context(), d); !errors.As(err, &requeue) {
				t.Fatalf("%v, want it held", err)
			}
			holds = append(holds, requeue.After)
			time.Sleep(requeue.After)
			d.Redelivered = true
		}
		if holds[0] != s || holds[9] != lastHold || !slices.IsSorted(holds) {
			t.Errorf("held for %v, want 1 to 30 s", holds)
		}
	})
}

// RabbitMQ hands on a count that a publisher made up, until the first failure.
func TestAForgedCountIsNoCount(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s), Native: true, Source: &topology.Queue{}, Logger: quiet})
	var got calls
	d := counted(amqp.Delivery{Headers: amqp.Table{"x-acquired-count": int64(1)}})
	d.Headers["x-delivery-count"] = int64(9)
	if err := plan.Middleware(&mover{})(got.fail(nil))(t.Context(), d); err != nil || !slices.Equal(got.attempts, []int{1}) {
		t.Errorf("%v after attempts %v, want the first", err, got.attempts)
	}
}

// A message without an id gets one: its copies are recognised by it, and so are the log lines about it.
func TestEachTryOfAMoveHasTheSameMessageID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
		var ids []string
		to := publishing(func(_ context.Context, _ string, msg amqp.Publishing) error {
			if ids = append(ids, msg.MessageId); len(ids) == 3 {
				return nil
			}
			return producer.ErrUnconfirmed
		})
		if err := plan.Middleware(to)(fails(errBoom))(t.Context(), counted(amqp.Delivery{})); err != nil {
			t.Fatal(err)
		}
		if len(ids) != 3 || ids[0] == "" || ids[0] != ids[1] || ids[1] != ids[2] {
			t.Errorf("message ids %q, want one", ids)
		}
	})
}

type publishing func(ctx context.Context, queue string, msg amqp.Publishing) error

func (p publishing) Republish(ctx context.Context, _, key string, msg amqp.Publishing) error {
	return p(ctx, key, msg)
}

// The connection at hand may take smaller frames than others.
func TestHeadersAreShortenedUntilTheProducerTakesThem(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
	var taken amqp.Table
	to := publishing(func(_ context.Context, _ string, msg amqp.Publishing) error {
		size := 0
		for k, v := range msg.Headers {
			size += len(k) + len(fmt.Sprint(v))
		}
		if size > 4096 {
			return fmt.Errorf("%w: %w", producer.ErrNotPublished, &amqperr.FieldError{Field: `Headers["large"]`})
		}
		taken = msg.Headers
		return nil
	})
	d := &consumer.Delivery{Queue: "orders", Delivery: amqp.Delivery{Headers: amqp.Table{"large": string(make([]byte, 9000)), "small": "s"}}}
	if err := plan.Middleware(to)(fails(errBoom))(t.Context(), d); err != nil || taken["small"] != "s" || taken[history.HeaderAttempts] != int64(1) {
		t.Errorf("%v: %v", err, taken)
	}
}

// The worker leaves a wait when its Run is to end, where giving back is counted, and not when the drain time is over.
func TestAWaitInTheProcessIsTakenAlongWhereReturnsAreCounted(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(5*time.Minute, time.Hour), MaxInProcessDelay: 5 * time.Minute}, func(b *bench) {
		older := func(next consumer.Handler) consumer.Handler {
			return func(ctx context.Context, d *consumer.Delivery) error {
				d.Headers, d.Redelivered = amqp.Table{"x-delivery-count": int64(1)}, true
				return next(ctx, d)
			}
		}
		var got calls
		end := b.run(got.fail(errBoom), func(c *consumer.Config) { c.Middleware = slices.Insert(c.Middleware, 0, older) })
		b.publish(amqp.Publishing{Body: []byte("m")})
		time.Sleep(time.Minute)
		began := time.Now()
		end()
		if took := time.Since(began); took > s {
			t.Errorf("Run ended after %v, want at once", took)
		}
		b.held(0)
		b.run(got.fail(errBoom))
		b.parked(2 * time.Hour)
		if gaps := got.gaps(); got.count() != 3 || gaps[0] < 5*time.Minute || gaps[0] > 6*time.Minute {
			t.Errorf("%d calls at distances of %v, want 3, the second after five minutes", got.count(), gaps)
		}
	})
}

// The clock of the host that asked for a delay may be ahead.
func TestADelayDoesNotDependOnAnotherHostsClock(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s, s, time.Hour), Logger: quiet})
	m := &mover{}
	ahead := time.Now().Add(10 * time.Minute).UTC()
	d := amqp.Delivery{Headers: amqp.Table{
		history.HeaderQueue: "orders", history.HeaderAttempts: int64(1),
		history.HeaderLastFailure: ahead.Format(time.RFC3339Nano), history.HeaderDue: ahead.Add(5 * s).Format(time.RFC3339Nano),
	}}
	if err := plan.Middleware(m)(fails(errBoom))(t.Context(), &consumer.Delivery{Delivery: d, Queue: "orders"}); err != nil || m.moved[0].queue != "orders.wait.1s" {
		t.Fatalf("%v, moved %v", err, m.moved)
	}
	due, err := time.Parse(time.RFC3339, fmt.Sprint(m.moved[0].msg.Headers[history.HeaderDue]))
	if rest := time.Until(due); err != nil || rest > 5*s {
		t.Errorf("it waits for %v more (%v), want what was asked for at most", rest, err)
	}
}

func TestAMisplacedMessageIsKeptWhereReturnsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "invoices", Policy: retry.Schedule(s), Logger: quiet})
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 1)
		go func() { results <- plan.Middleware(&mover{})(fails(nil))(ctx, counted(amqp.Delivery{})) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(results) > 0 {
			t.Error("it was given back")
		}
		cancel()
		var hop *retry.MoveError
		if err := <-results; !errors.As(err, &hop) {
			t.Errorf("%v, want it given back in the end", err)
		}
	})
}

func TestAPublisherThatPanicsLosesNothing(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s), Logger: quiet})
	var nobody *producer.Producer
	var hop *retry.MoveError
	if err := plan.Middleware(nobody)(fails(errBoom))(t.Context(), &consumer.Delivery{Queue: "orders"}); !errors.As(err, &hop) {
		t.Errorf("%v, want a MoveError", err)
	}
}

package retry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
)

// A mover is a Publisher that records its moves. It refuses moves to some queues.
type mover struct {
	refuses []string
	moved   []move
}

type move struct {
	queue string
	msg   amqp.Publishing
}

func (m *mover) Republish(_ context.Context, _, key string, msg amqp.Publishing) error {
	if slices.Contains(m.refuses, key) {
		return fmt.Errorf("%s: %w", key, producer.ErrNacked)
	}
	m.moved = append(m.moved, move{key, msg})
	return nil
}

// requeued returns the redelivery of a message that RabbitMQ before 4.3 has counted n times.
func requeued(d amqp.Delivery, n int) *consumer.Delivery {
	d.Headers = maps.Clone(d.Headers)
	if d.Headers == nil {
		d.Headers = amqp.Table{}
	}
	d.Headers["x-delivery-count"], d.Redelivered = int64(n), true
	return &consumer.Delivery{Delivery: d, Queue: "orders"}
}

// delivered returns the delivery of a message that was moved.
func delivered(m move) *consumer.Delivery {
	return &consumer.Delivery{Delivery: amqp.Delivery{MessageId: m.msg.MessageId, Headers: m.msg.Headers, Body: m.msg.Body}, Queue: m.queue}
}

func TestARefusedMoveIsRepeatedWithoutAnAttempt(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		target string
	}{
		"to a wait queue":      {errBoom, "orders.wait.10s"},
		"to the parking queue": {amqperr.Permanent(errBoom), "orders.parked"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &mover{refuses: []string{c.target}}
				var got calls
				process := func() consumer.Handler { // each delivery may be in another process
					return planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet}).Middleware(m)(got.fail(c.err))
				}
				if err := process()(t.Context(), requeued(amqp.Delivery{MessageId: "id", Body: []byte("m")}, 1)); err != nil || len(m.moved) != 1 || m.moved[0].queue != "orders" {
					t.Fatalf("%v; moved %v, want it in its own queue", err, m.moved)
				}
				var failed *retry.MoveError
				if err := process()(t.Context(), delivered(m.moved[0])); !errors.As(err, &failed) || failed.Queue != c.target {
					t.Fatalf("%v, want a MoveError for %s", err, c.target)
				}
				if err := process()(t.Context(), requeued(delivered(m.moved[0]).Delivery, 1)); err != nil || len(m.moved) != 2 || m.moved[1].queue != "orders" {
					t.Fatalf("%v; moved %v, want it in its own queue again", err, m.moved)
				}
				m.refuses = nil
				time.Sleep(s)
				if err := process()(t.Context(), delivered(m.moved[1])); err != nil || len(m.moved) != 3 || m.moved[2].queue != c.target {
					t.Fatalf("%v; moved %v, want it in %s", err, m.moved, c.target)
				}
				if msg := m.moved[2].msg; got.count() != 1 || msg.MessageId != "id" || msg.Headers[history.HeaderAttempts] != int64(1) || msg.Headers[history.HeaderPark] != nil {
					t.Errorf("%d calls, moved %+v; want one call, and the message after one attempt", got.count(), msg)
				}
			})
		})
	}
}

func TestAMessageIsTriedAgainInItsQueueAfterItsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10*s, time.Hour), Logger: quiet})
		m := &mover{refuses: []string{"orders.wait.10s"}}
		var got calls
		h := plan.Middleware(m)(got.fail(errBoom))
		d := &consumer.Delivery{Queue: "orders"}
		for range 12 { // however often it was requeued at the tail
			if err := h(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if got.count() == 2 {
				break
			}
			time.Sleep(s)
			d = requeued(delivered(m.moved[len(m.moved)-1]).Delivery, 1)
		}
		if gaps := got.gaps(); !slices.Equal(got.attempts, []int{1, 2}) || gaps[0] != 10*s {
			t.Errorf("attempts %v at distances of %v, want the second after 10 s", got.attempts, gaps)
		}
	})
}

// The copy may have arrived: another one at the tail would be a duplicate.
func TestAnUnansweredMoveIsNotRequeuedAtTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
		var queues []string
		to := publishing(func(ctx context.Context, queue string, _ amqp.Publishing) error {
			queues = append(queues, queue)
			<-ctx.Done()
			return errors.Join(producer.ErrUnconfirmed, context.Cause(ctx))
		})
		var failed *retry.MoveError
		err := plan.Middleware(to)(fails(errBoom))(t.Context(), &consumer.Delivery{Queue: "orders"})
		if !errors.As(err, &failed) || !slices.Equal(queues, []string{"orders.wait.10s"}) {
			t.Errorf("%v, moved to %q, want a MoveError after one move", err, queues)
		}
	})
}

// RabbitMQ before 4.3 counts each requeue, and 20 of them reach the default delivery limit.
func TestAMessageWhoseRequeuesAreCountedIsHeldForHours(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
	h := plan.Middleware(&mover{refuses: []string{"orders.wait.10s", "orders"}})(fails(errBoom))
	var held time.Duration
	var requeue *consumer.RequeueError
	for n := range 20 {
		if err := h(t.Context(), requeued(amqp.Delivery{}, n)); !errors.As(err, &requeue) || requeue.After > 15*time.Minute {
			t.Fatalf("%v, want it requeued within half of the consumer timeout", err)
		}
		held += requeue.After
	}
	if held < 3*time.Hour {
		t.Errorf("it reaches the limit after %v, want hours", held)
	}
	d := requeued(amqp.Delivery{Headers: amqp.Table{"x-acquired-count": int64(30)}}, 19) // of 4.3
	if err := h(t.Context(), d); !errors.As(err, &requeue) || requeue.After != lastHold {
		t.Errorf("%v, want it requeued after %v", err, lastHold)
	}
}

// A copy counts as new.
func TestAMessageWithAPendingMoveDoesNotComeNearerToItsDeliveryLimit(t *testing.T) {
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

// At the head of the queue, as many as the prefetch would block all others.
func TestMessagesWithAPendingMoveDoNotBlockOthers(t *testing.T) {
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

func TestAPendingMoveIsRepeatedAtGrowingIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s).MaxAttempts(1), Logger: quiet})
		m := &mover{refuses: []string{"orders.parked"}}
		h := plan.Middleware(m)(fails(errBoom))
		d := &consumer.Delivery{Queue: "orders"}
		var holds []time.Duration
		for range 10 {
			if err := h(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			d = delivered(m.moved[len(m.moved)-1])
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

// The copies of a message without an id get one: it identifies duplicates and log lines.
func TestEachTryOfAMoveHasTheSameMessageID(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Logger: quiet})
	var ids []string
	to := publishing(func(_ context.Context, _ string, msg amqp.Publishing) error {
		ids = append(ids, msg.MessageId)
		return producer.ErrNacked
	})
	_ = plan.Middleware(to)(fails(errBoom))(t.Context(), &consumer.Delivery{Queue: "orders"})
	if len(ids) != 2 || ids[0] == "" || ids[0] != ids[1] {
		t.Errorf("message ids %q, want one twice", ids)
	}
}

type publishing func(ctx context.Context, queue string, msg amqp.Publishing) error

func (p publishing) Republish(ctx context.Context, _, key string, msg amqp.Publishing) error {
	return p(ctx, key, msg)
}

// The frames of a connection may be smaller than the default.
func TestHeadersAreShortenedUntilTheProducerAcceptsThem(t *testing.T) {
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

// The clock of the host that asked for the delay may be ahead.
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
	if rest := time.Until(due); err != nil || rest > 5*s+time.Millisecond {
		t.Errorf("it waits for %v more (%v), want what was asked for at most", rest, err)
	}
}

func TestAPublisherThatPanicsLosesNothing(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s), Logger: quiet})
	panics := publishing(func(context.Context, string, amqp.Publishing) error { panic("in the Publisher") })
	var failed *retry.MoveError
	if err := plan.Middleware(panics)(fails(errBoom))(t.Context(), &consumer.Delivery{Queue: "orders"}); !errors.As(err, &failed) {
		t.Errorf("%v, want a MoveError", err)
	}
}

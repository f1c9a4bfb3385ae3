package consuming

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestPromise12TheHandlersResultSettlesTheDelivery(t *testing.T) {
	kit.Needs43(t)
	kit.NeedsControl(t)
	b := kit.NewConsumerBench(t)
	dead := b.Queue(amqp.Table{"x-delivery-limit": -1})
	queue := b.Queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})

	type seen struct {
		*consumer.Delivery
		at time.Time
	}
	again := make(chan seen, 10)
	done := make(chan string, 10)
	start := time.Now()
	b.Publish(queue, "fail", "panic", "requeue", "reject", "ack")
	// One worker: what is held must not keep it from the messages behind.
	r := b.Start(consumer.Config{Queue: queue, Prefetch: 10, HasDeadLetterExchange: true}, func(_ context.Context, d *consumer.Delivery) error {
		if err := d.Ack(false); !errors.Is(err, consumer.ErrAlreadySettled) {
			t.Errorf("Ack within a handler = %v, want ErrAlreadySettled", err)
		}
		if d.Redelivered {
			again <- seen{d, time.Now()}
			return nil
		}
		defer func() { done <- string(d.Body) }()
		switch string(d.Body) {
		case "fail":
			return errors.New("database down")
		case "panic":
			panic("nil map")
		case "requeue":
			return consumer.Requeue(100 * time.Millisecond)
		case "reject":
			return fmt.Errorf("order 7: %w", consumer.Reject(errors.New("no such customer")))
		}
		return nil
	})
	for _, want := range []string{"fail", "panic", "requeue", "reject", "ack"} {
		if got := kit.Receive(t, done, "first delivery"); got != want {
			t.Errorf("handled %s, want %s", got, want)
		}
	}
	if held := time.Since(start); held >= time.Second {
		t.Errorf("the first deliveries took %v: a held one kept the worker busy", held)
	}
	for range 3 {
		d := kit.Receive(t, again, "redelivery")
		failed, counted := d.Headers["x-delivery-count"]
		after, wantCount := time.Second, any(int64(1))
		if string(d.Body) == "requeue" {
			after, wantCount = 100*time.Millisecond, nil
		}
		if failed != wantCount || d.Headers["x-acquired-count"] != int64(1) {
			t.Errorf("%s: x-delivery-count %v (%v), x-acquired-count %v; want %v and 1",
				d.Body, failed, counted, d.Headers["x-acquired-count"], wantCount)
		}
		if held := d.at.Sub(start); held < after {
			t.Errorf("%s came back after %v, want %v or more", d.Body, held, after)
		}
	}
	if d := b.Take(dead); string(d.Body) != "reject" {
		t.Errorf("dead-lettered %s, want reject", d.Body)
	}
	r.StopClean()
	b.ExpectLeft(queue, 0)
}

func TestPromise12UndecodableInputIsRejected(t *testing.T) {
	b := kit.NewConsumerBench(t)
	dead := b.Queue(nil)
	queue := b.Queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	b.Publish(queue, "no number")
	b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: true},
		consumer.JSON(func(context.Context, int) error { t.Error("called"); return nil }))
	if d := b.Take(dead); string(d.Body) != "no number" {
		t.Errorf("dead-lettered %s", d.Body)
	}
}

func TestPromise12AClassicQueuesMessageIsHeldLongerEachTime(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Name()
	b.Declare(queue, "classic", nil)
	b.Publish(queue, "m")
	times := make(chan time.Time, 3)
	failures := 0
	b.Start(consumer.Config{Queue: queue}, func(context.Context, *consumer.Delivery) error {
		times <- time.Now()
		if failures++; failures < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	last := kit.Receive(t, times, "delivery")
	for _, want := range []time.Duration{time.Second, 2 * time.Second} {
		next := kit.Receive(t, times, "delivery")
		if held := next.Sub(last); held < want {
			t.Errorf("held for %v, want %v", held, want)
		}
		last = next
	}
}

func TestPromise12RunWarnsOnceWhenRejectingMayLoseAMessage(t *testing.T) {
	b := kit.NewConsumerBench(t)
	for _, deadLettered := range []bool{false, true} {
		queue := b.Queue(nil)
		b.Publish(queue, "1", "2")
		var log kit.Logbook
		done := make(chan struct{}, 2)
		r := b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: deadLettered, Logger: log.Logger()},
			func(context.Context, *consumer.Delivery) error { done <- struct{}{}; return consumer.Reject(nil) })
		kit.Receive(t, done, "delivery")
		kit.Receive(t, done, "delivery")
		r.StopClean()
		want := 1
		if deadLettered {
			want = 0
		}
		if got := log.Count("no dead-letter exchange"); got != want {
			t.Errorf("HasDeadLetterExchange %v: warned %d times, want %d", deadLettered, got, want)
		}
	}
}

func TestPromise13AResultOfALostSessionIsNotSent(t *testing.T) {
	kit.NeedsControl(t)
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	b.Publish(queue, "m")
	var subscribed atomic.Int64
	begun := make(chan bool, 10)
	release := make(chan struct{})
	r := b.Start(consumer.Config{
		Queue: queue, Workers: 2,
		Declare: func(context.Context, *amqp.Connection) (string, error) { subscribed.Add(1); return "", nil },
	}, func(_ context.Context, d *consumer.Delivery) error {
		begun <- d.Redelivered
		if string(d.Body) == "m" {
			<-release
		}
		return nil
	})
	if kit.Receive(t, begun, "first delivery") {
		t.Error("the first delivery is a redelivery")
	}
	b.Cut()
	if !kit.Receive(t, begun, "redelivery") {
		t.Error("the second delivery is no redelivery")
	}
	// Both handlers hold delivery tag 1, of their own channel. The stale one's ack on the new
	// channel would settle the other's message, and the other's then close the channel (406).
	close(release)
	b.Publish(queue, "after")
	kit.Receive(t, begun, "the next message")
	r.StopClean()
	b.ExpectLeft(queue, 0)
	if n := subscribed.Load(); n != 2 {
		t.Errorf("subscribed %d times, want 2: at the start and after the cut", n)
	}
}

func TestPromise13ASlowHandlerOfALostSessionCountsAsAWorker(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	b.Publish(queue, "m")
	var now, most atomic.Int64
	begun := make(chan struct{}, 10)
	release := make(chan struct{})
	subscribing := make(chan struct{}, 10)
	r := b.Start(consumer.Config{
		Queue:   queue,
		Declare: func(context.Context, *amqp.Connection) (string, error) { subscribing <- struct{}{}; return "", nil },
	}, func(context.Context, *consumer.Delivery) error {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		begun <- struct{}{}
		<-release
		return nil
	})
	kit.Receive(t, begun, "delivery")
	kit.Receive(t, subscribing, "first subscribe")
	b.Cut()
	kit.Receive(t, subscribing, "second subscribe")
	if err := r.Ready(b.Ctx()); err != nil { // although the handler still runs
		t.Fatal(err)
	}
	close(release)
	kit.Receive(t, begun, "redelivery")
	r.StopClean()
	if n := most.Load(); n != 1 {
		t.Errorf("%d handlers ran at once, want 1", n)
	}
}

// A changed delivery tag would settle another message: the first would come back, and 406 end the channel.
func TestPromise13AHandlerCannotChangeWhatIsSettled(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	b.Publish(queue, "1", "2", "3")
	handled := make(chan string, 100)
	r := b.Start(consumer.Config{Queue: queue, Prefetch: 3}, func(_ context.Context, d *consumer.Delivery) error {
		handled <- string(d.Body)
		d.DeliveryTag++
		return nil
	})
	for _, want := range []string{"1", "2", "3"} {
		if got := kit.Receive(t, handled, "message"); got != want {
			t.Errorf("handled %s, want %s", got, want)
		}
	}
	r.StopClean()
	b.ExpectLeft(queue, 0)
	if n := len(handled); n > 0 {
		t.Errorf("%d messages were handled again", n)
	}
}

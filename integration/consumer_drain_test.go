package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/producer"
)

// The broker's quorum queues lose acknowledgements that a channel's close overtakes. Each of
// these shapes lost hundreds of a thousand with a plain "cancel, ack, close".
func TestPromise15AckingAThousandAndEndingRunPutsNoneBack(t *testing.T) {
	needsControl(t)
	const messages, repeats = 1000, 5
	for name, run := range map[string]func(b *consumerBench, queue string) error{
		"ended after the last handler": func(b *consumerBench, queue string) error {
			done := make(chan struct{}, messages)
			r := b.start(consumer.Config{Queue: queue, Workers: 4, Prefetch: messages},
				func(context.Context, *consumer.Delivery) error { done <- struct{}{}; return nil })
			for range messages {
				receive(b.t, done, "handler")
			}
			return r.stop()
		},
		"ended by the last handler": func(b *consumerBench, queue string) error {
			var handled atomic.Int64
			ended := make(chan context.CancelFunc, 1)
			r := b.begin(consumer.Config{Queue: queue, Workers: 4, Prefetch: messages},
				func(context.Context, *consumer.Delivery) error {
					if handled.Add(1) == messages {
						(<-ended)()
					}
					return nil
				})
			ended <- r.end
			return receive(b.t, r.done, "Run's return")
		},
		"all handlers finish during the drain": func(b *consumerBench, queue string) error {
			begun := make(chan struct{}, messages)
			release := make(chan struct{})
			r := b.start(consumer.Config{Queue: queue, Workers: messages, Prefetch: messages + 1},
				func(context.Context, *consumer.Delivery) error {
					begun <- struct{}{}
					<-release
					return nil
				})
			for range messages {
				receive(b.t, begun, "handler")
			}
			r.end()
			// Whether it still reaches the consumer or not, this one is left in the queue once
			// the broker has cancelled the consumer.
			b.publish(queue, "late")
			err := b.broker.AwaitQueue(b.ctx(), queue, func(c rabbit.Counts) bool { return c.Ready == 1 })
			if err != nil {
				return err
			}
			if d := b.take(queue); string(d.Body) != "late" {
				b.t.Errorf("took %s, want late", d.Body)
			}
			close(release)
			return receive(b.t, r.done, "Run's return")
		},
	} {
		for i := range repeats {
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				b := newConsumerBench(t)
				queue := b.queue(nil)
				b.publish(queue, numbers(messages)...)
				if err := run(b, queue); err != nil {
					t.Errorf("Run = %v, want nil", err)
				}
				b.expectLeft(queue, 0)
			})
		}
	}
}

func TestPromise15WhatNoHandlerBeganGoesBackUncounted(t *testing.T) {
	needs43(t)
	needsControl(t)
	b := newConsumerBench(t)
	const messages = 200
	queue := b.queue(nil)
	b.publish(queue, numbers(messages)...)
	begun := make(chan struct{}, messages)
	release := make(chan struct{})
	var handled atomic.Int64
	r := b.start(consumer.Config{Queue: queue, Prefetch: messages}, func(context.Context, *consumer.Delivery) error {
		handled.Add(1)
		begun <- struct{}{}
		<-release
		return nil
	})
	receive(t, begun, "delivery")
	if err := b.broker.AwaitQueue(b.ctx(), queue, func(c rabbit.Counts) bool { return c.Unacked == messages }); err != nil {
		t.Fatal(err)
	}
	r.end()
	if err := b.broker.AwaitQueue(b.ctx(), queue, func(c rabbit.Counts) bool { return c.Unacked == 1 }); err != nil {
		t.Errorf("what no handler has begun is not given back at once: %v", err)
	}
	close(release)
	if err := receive(t, r.done, "Run's return"); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if n := handled.Load(); n != 1 {
		t.Errorf("%d handlers begun, want 1: the others after ctx ended", n)
	}
	b.expectLeft(queue, messages-1)
	for i := range messages - 1 {
		d := b.take(queue)
		if failures, counted := d.Headers["x-delivery-count"]; counted || !d.Redelivered {
			t.Fatalf("message %s: redelivered %v with x-delivery-count %v, want none", d.Body, d.Redelivered, failures)
		}
		if string(d.Body) != fmt.Sprint(i+1) {
			t.Fatalf("message %s came back in place of %d", d.Body, i+1)
		}
	}
}

func TestPromise15GivingBackAThousandAtOnceCountsNone(t *testing.T) {
	needs43(t)
	needsControl(t)
	b := newConsumerBench(t)
	const messages = 1000
	for range 3 {
		queue := b.queue(nil)
		b.publish(queue, numbers(messages)...)
		begun := make(chan struct{})
		r := b.start(consumer.Config{Queue: queue, Prefetch: messages}, func(context.Context, *consumer.Delivery) error {
			begun <- struct{}{}
			<-begun
			return nil
		})
		receive(t, begun, "delivery")
		err := b.broker.AwaitQueue(b.ctx(), queue, func(c rabbit.Counts) bool { return c.Unacked == messages })
		if err != nil {
			t.Fatal(err)
		}
		r.end()
		close(begun)
		if err := receive(t, r.done, "Run's return"); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		b.expectLeft(queue, messages-1)
		counted := 0
		for range messages - 1 {
			if _, ok := b.take(queue).Headers["x-delivery-count"]; ok {
				counted++
			}
		}
		if counted > 0 {
			t.Errorf("%d of %d messages given back were counted as failed", counted, messages-1)
		}
	}
}

func TestPromise15WhatIsHeldGoesBackAtOnce(t *testing.T) {
	needs43(t)
	needsControl(t)
	b := newConsumerBench(t)
	queue := b.queue(nil)
	b.publish(queue, "fail", "requeue")
	done := make(chan struct{}, 2)
	r := b.start(consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		done <- struct{}{}
		if string(d.Body) == "fail" {
			return errors.New("database down")
		}
		return consumer.Requeue(time.Hour)
	})
	receive(t, done, "delivery")
	receive(t, done, "delivery")
	r.stopClean()
	b.expectLeft(queue, 2)
	for range 2 {
		d := b.take(queue)
		_, counted := d.Headers["x-delivery-count"]
		if want := string(d.Body) == "fail"; counted != want {
			t.Errorf("%s: counted as failed %v, want %v", d.Body, counted, want)
		}
	}
}

func TestPromise15HandlersThatOverrunTheDrainTimeAreReported(t *testing.T) {
	needs43(t)
	needsControl(t)
	b := newConsumerBench(t)
	queue := b.queue(nil)
	b.publish(queue, "obeys", "ends well", "ignores")
	begun := make(chan struct{}, 3)
	release := make(chan struct{})
	ignored := make(chan struct{})
	r := b.start(consumer.Config{Queue: queue, Workers: 3, DrainTimeout: 100 * time.Millisecond}, func(ctx context.Context, d *consumer.Delivery) error {
		if ctx.Value(benchKey{}) != t.Name() {
			t.Error("the handler's ctx lacks the values of Run's")
		}
		begun <- struct{}{}
		switch string(d.Body) {
		case "obeys":
			<-ctx.Done()
			return ctx.Err()
		case "ends well":
			<-ctx.Done()
			return nil
		}
		<-release
		close(ignored)
		return nil
	})
	for range 3 {
		receive(t, begun, "delivery")
	}
	var drain *consumer.DrainError
	if err := r.stop(); !errors.As(err, &drain) || drain.Unfinished != 3 || drain.Running != 1 {
		t.Errorf("Run = %v, want a *DrainError: 3 unfinished, 1 running", err)
	}
	b.expectLeft(queue, 2)
	for range 2 {
		d := b.take(queue)
		_, counted := d.Headers["x-delivery-count"]
		// What was interrupted did not fail; what still runs is lost with its channel.
		if want := string(d.Body) == "ignores"; counted != want {
			t.Errorf("%s: counted as failed %v, want %v", d.Body, counted, want)
		}
	}
	close(release)
	<-ignored
}

func TestPromise15EndingOneConsumerDoesNotDisturbItsNeighbour(t *testing.T) {
	b := newConsumerBench(t)
	queue, other := b.queue(nil), b.queue(nil)
	got := make(chan string, 1000)
	neighbour := b.start(consumer.Config{Queue: other}, func(_ context.Context, d *consumer.Delivery) error {
		got <- string(d.Body)
		return nil
	})
	nop := func(context.Context, *consumer.Delivery) error { return nil }
	for i := range 100 { // the end falls into every step of subscribing
		c, err := consumer.New(b.conn, consumer.Config{Queue: queue, Logger: slog.New(slog.DiscardHandler)}, nop)
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		end()
		b.publish(other, fmt.Sprint(i))
		if m := receive(t, got, "the neighbour's message"); m != fmt.Sprint(i) {
			t.Errorf("the neighbour got %s, want %d", m, i)
		}
	}
	if b.dialled() != 1 {
		t.Errorf("%d links dialled, want the neighbour's to stay", b.dialled())
	}
	neighbour.stopClean()
}

func TestPromise15RunLeavesNoChannelBehind(t *testing.T) {
	needsControl(t)
	b := newConsumerBench(t)
	queue := b.queue(nil)
	nop := func(context.Context, *consumer.Delivery) error { return nil }
	c, err := consumer.New(b.conn, consumer.Config{Queue: queue, Workers: 4, Logger: slog.New(slog.DiscardHandler)}, nop)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 { // one Consumer may run again and again
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		for err := errors.New(""); err != nil && b.t.Context().Err() == nil; {
			err = c.Ready(b.t.Context()) // ErrNotSubscribed until the new Run has begun
		}
		end()
		if err := receive(t, done, "Run's return"); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
	}
	out, err := b.broker.Ctl(b.ctx(), "-q", "list_channels", "--no-table-headers", "pid", "consumer_count")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out, "\n"); n != 1 { // the bench's plain channel
		t.Errorf("%d channels on the broker, want 1:\n%s", n, out)
	}
	if b.dialled() != 1 {
		t.Errorf("%d links dialled, want 1", b.dialled())
	}
}

// What handlers settle after the cancel must not reach the broker together with the close.
func TestPromise15AStalledLinkPutsNoAcknowledgementBack(t *testing.T) {
	b := needsControl(t)
	proxy := amqptest.StartProxy(t, b.URL())
	conn := connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
	p := newProducer(t, connect(t, amqpkit.Config{}), producer.Config{})
	ctx := within(t, 60*time.Second)
	const n = 300
	for _, stall := range []time.Duration{0, 150 * time.Millisecond, 300 * time.Millisecond} {
		queue := quorumQueue(t, nil)
		for _, err := range p.PublishAll(ctx, slices.Repeat([]producer.Message{{Key: queue}}, n)) {
			if err != nil {
				t.Fatal(err)
			}
		}
		begun, finish := make(chan struct{}, n), make(chan struct{})
		c, err := consumer.New(conn, consumer.Config{Queue: queue, Workers: n, Logger: logger(t)}, func(context.Context, *consumer.Delivery) error {
			begun <- struct{}{}
			<-finish
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		running, end := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- c.Run(running) }()
		for range n {
			<-begun
		}
		end()
		// One more message stays in the queue: the consumer is cancelled.
		if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		if err := b.AwaitQueue(ctx, queue, func(c rabbit.Counts) bool { return c.Ready == 1 }); err != nil {
			t.Fatal(err)
		}
		proxy.Pause(amqptest.FromClient)
		time.AfterFunc(stall, proxy.Clear)
		close(finish)
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		if err := b.AwaitQueue(ctx, queue, func(c rabbit.Counts) bool { return c.Unacked == 0 }); err != nil {
			t.Fatal(err)
		}
		if c, err := b.Queue(ctx, queue); err != nil || c.Ready != 1 {
			t.Fatalf("after a stall of %v %d of %d messages are back (%v)", stall, c.Ready-1, n, err)
		}
	}
}

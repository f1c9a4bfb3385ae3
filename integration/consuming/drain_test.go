package consuming

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
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/producer"
)

// The broker's quorum queues lose acknowledgements that a channel's close overtakes. Each of
// these shapes lost hundreds of a thousand with a plain "cancel, ack, close".
func TestPromise15AckingAThousandAndEndingRunPutsNoneBack(t *testing.T) {
	kit.NeedsControl(t)
	const messages, repeats = 1000, 5
	for name, run := range map[string]func(b *kit.ConsumerBench, queue string) error{
		"ended after the last handler": func(b *kit.ConsumerBench, queue string) error {
			done := make(chan struct{}, messages)
			r := b.Start(consumer.Config{Queue: queue, Workers: 4, Prefetch: messages},
				func(context.Context, *consumer.Delivery) error { done <- struct{}{}; return nil })
			for range messages {
				kit.Receive(b.T, done, "handler")
			}
			return r.Stop()
		},
		"ended by the last handler": func(b *kit.ConsumerBench, queue string) error {
			var handled atomic.Int64
			ended := make(chan context.CancelFunc, 1)
			r := b.Begin(consumer.Config{Queue: queue, Workers: 4, Prefetch: messages},
				func(context.Context, *consumer.Delivery) error {
					if handled.Add(1) == messages {
						(<-ended)()
					}
					return nil
				})
			ended <- r.End
			return kit.Receive(b.T, r.Done, "Run's return")
		},
		"all handlers finish during the drain": func(b *kit.ConsumerBench, queue string) error {
			begun := make(chan struct{}, messages)
			release := make(chan struct{})
			r := b.Start(consumer.Config{Queue: queue, Workers: messages, Prefetch: messages + 1},
				func(context.Context, *consumer.Delivery) error {
					begun <- struct{}{}
					<-release
					return nil
				})
			for range messages {
				kit.Receive(b.T, begun, "handler")
			}
			r.End()
			// Whether it still reaches the consumer or not, this one is left in the queue once
			// the broker has cancelled the consumer.
			b.Publish(queue, "late")
			err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool { return c.Ready == 1 })
			if err != nil {
				return err
			}
			if d := b.Take(queue); string(d.Body) != "late" {
				b.T.Errorf("took %s, want late", d.Body)
			}
			close(release)
			return kit.Receive(b.T, r.Done, "Run's return")
		},
	} {
		for i := range repeats {
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				b := kit.NewConsumerBench(t)
				queue := b.Queue(nil)
				b.Publish(queue, kit.Numbers(messages)...)
				if err := run(b, queue); err != nil {
					t.Errorf("Run = %v, want nil", err)
				}
				b.ExpectLeft(queue, 0)
			})
		}
	}
}

func TestPromise15WhatNoHandlerBeganGoesBackUncounted(t *testing.T) {
	kit.Needs43(t)
	kit.NeedsControl(t)
	b := kit.NewConsumerBench(t)
	const messages = 200
	queue := b.Queue(nil)
	b.Publish(queue, kit.Numbers(messages)...)
	begun := make(chan struct{}, messages)
	release := make(chan struct{})
	var handled atomic.Int64
	r := b.Start(consumer.Config{Queue: queue, Prefetch: messages}, func(context.Context, *consumer.Delivery) error {
		handled.Add(1)
		begun <- struct{}{}
		<-release
		return nil
	})
	kit.Receive(t, begun, "delivery")
	if err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool { return c.Unacked == messages }); err != nil {
		t.Fatal(err)
	}
	r.End()
	if err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool { return c.Unacked == 1 }); err != nil {
		t.Errorf("what no handler has begun is not given back at once: %v", err)
	}
	close(release)
	if err := kit.Receive(t, r.Done, "Run's return"); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if n := handled.Load(); n != 1 {
		t.Errorf("%d handlers begun, want 1: the others after ctx ended", n)
	}
	b.ExpectLeft(queue, messages-1)
	for i := range messages - 1 {
		d := b.Take(queue)
		if failures, counted := d.Headers["x-delivery-count"]; counted || !d.Redelivered {
			t.Fatalf("message %s: redelivered %v with x-delivery-count %v, want none", d.Body, d.Redelivered, failures)
		}
		if string(d.Body) != fmt.Sprint(i+1) {
			t.Fatalf("message %s came back in place of %d", d.Body, i+1)
		}
	}
}

func TestPromise15GivingBackAThousandAtOnceCountsNone(t *testing.T) {
	kit.Needs43(t)
	kit.NeedsControl(t)
	b := kit.NewConsumerBench(t)
	const messages = 1000
	for range 3 {
		queue := b.Queue(nil)
		b.Publish(queue, kit.Numbers(messages)...)
		begun := make(chan struct{})
		r := b.Start(consumer.Config{Queue: queue, Prefetch: messages}, func(context.Context, *consumer.Delivery) error {
			begun <- struct{}{}
			<-begun
			return nil
		})
		kit.Receive(t, begun, "delivery")
		err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool { return c.Unacked == messages })
		if err != nil {
			t.Fatal(err)
		}
		r.End()
		close(begun)
		if err := kit.Receive(t, r.Done, "Run's return"); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		b.ExpectLeft(queue, messages-1)
		counted := 0
		for range messages - 1 {
			if _, ok := b.Take(queue).Headers["x-delivery-count"]; ok {
				counted++
			}
		}
		if counted > 0 {
			t.Errorf("%d of %d messages given back were counted as failed", counted, messages-1)
		}
	}
}

func TestPromise15WhatIsHeldGoesBackAtOnce(t *testing.T) {
	kit.Needs43(t)
	kit.NeedsControl(t)
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	b.Publish(queue, "fail", "requeue")
	done := make(chan struct{}, 2)
	r := b.Start(consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		done <- struct{}{}
		if string(d.Body) == "fail" {
			return errors.New("database down")
		}
		return consumer.Requeue(time.Hour)
	})
	kit.Receive(t, done, "delivery")
	kit.Receive(t, done, "delivery")
	r.StopClean()
	b.ExpectLeft(queue, 2)
	for range 2 {
		d := b.Take(queue)
		_, counted := d.Headers["x-delivery-count"]
		if want := string(d.Body) == "fail"; counted != want {
			t.Errorf("%s: counted as failed %v, want %v", d.Body, counted, want)
		}
	}
}

func TestPromise15HandlersThatOverrunTheDrainTimeAreReported(t *testing.T) {
	kit.Needs43(t)
	kit.NeedsControl(t)
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	b.Publish(queue, "obeys", "ends well", "ignores")
	begun := make(chan struct{}, 3)
	release := make(chan struct{})
	ignored := make(chan struct{})
	r := b.Start(consumer.Config{Queue: queue, Workers: 3, DrainTimeout: 100 * time.Millisecond}, func(ctx context.Context, d *consumer.Delivery) error {
		if ctx.Value(kit.BenchKey{}) != t.Name() {
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
		kit.Receive(t, begun, "delivery")
	}
	var drain *consumer.DrainError
	if err := r.Stop(); !errors.As(err, &drain) || drain.Unfinished != 3 || drain.Running != 1 {
		t.Errorf("Run = %v, want a *DrainError: 3 unfinished, 1 running", err)
	}
	b.ExpectLeft(queue, 2)
	for range 2 {
		d := b.Take(queue)
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
	b := kit.NewConsumerBench(t)
	queue, other := b.Queue(nil), b.Queue(nil)
	got := make(chan string, 1000)
	neighbour := b.Start(consumer.Config{Queue: other}, func(_ context.Context, d *consumer.Delivery) error {
		got <- string(d.Body)
		return nil
	})
	nop := func(context.Context, *consumer.Delivery) error { return nil }
	for i := range 100 { // the end falls into every step of subscribing
		c, err := consumer.New(b.Conn, consumer.Config{Queue: queue, Logger: slog.New(slog.DiscardHandler)}, nop)
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		end()
		b.Publish(other, fmt.Sprint(i))
		if m := kit.Receive(t, got, "the neighbour's message"); m != fmt.Sprint(i) {
			t.Errorf("the neighbour got %s, want %d", m, i)
		}
	}
	if b.Dialled() != 1 {
		t.Errorf("%d links dialled, want the neighbour's to stay", b.Dialled())
	}
	neighbour.StopClean()
}

func TestPromise15RunLeavesNoChannelBehind(t *testing.T) {
	kit.NeedsControl(t)
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	nop := func(context.Context, *consumer.Delivery) error { return nil }
	c, err := consumer.New(b.Conn, consumer.Config{Queue: queue, Workers: 4, Logger: slog.New(slog.DiscardHandler)}, nop)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 { // one Consumer may run again and again
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		for err := errors.New(""); err != nil && b.T.Context().Err() == nil; {
			err = c.Ready(b.T.Context()) // ErrNotSubscribed until the new Run has begun
		}
		end()
		if err := kit.Receive(t, done, "Run's return"); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
	}
	out, err := b.Broker.Ctl(b.Ctx(), "-q", "list_channels", "--no-table-headers", "pid", "consumer_count")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out, "\n"); n != 1 { // the bench's plain channel
		t.Errorf("%d channels on the broker, want 1:\n%s", n, out)
	}
	if b.Dialled() != 1 {
		t.Errorf("%d links dialled, want 1", b.Dialled())
	}
}

// What handlers settle after the cancel must not reach the broker together with the close.
func TestPromise15AStalledLinkPutsNoAcknowledgementBack(t *testing.T) {
	b := kit.NeedsControl(t)
	proxy := amqptest.StartProxy(t, b.URL())
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{})
	ctx := kit.Within(t, 60*time.Second)
	const n = 300
	for _, stall := range []time.Duration{0, 150 * time.Millisecond, 300 * time.Millisecond} {
		queue := kit.QuorumQueue(t, nil)
		for _, err := range p.PublishAll(ctx, slices.Repeat([]producer.Message{{Key: queue}}, n)) {
			if err != nil {
				t.Fatal(err)
			}
		}
		begun, finish := make(chan struct{}, n), make(chan struct{})
		c, err := consumer.New(conn, consumer.Config{Queue: queue, Workers: n, Logger: kit.Logger(t)}, func(context.Context, *consumer.Delivery) error {
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

package consuming

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// With recovery switched on, amqp091-go acks m3 here: the stale tag 2 is m3's in the new session.
func TestS27AResultOfALostSessionSettlesNothing(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	wire := kit.Observe(proxy)
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(nil)
	b.Publish(queue, "m1", "m2", "m3")
	begun := make(chan string, 20)
	release := make(chan struct{})
	var again sync.Map
	r := b.Start(consumer.Config{Queue: queue, Workers: 4, Prefetch: 2}, func(_ context.Context, d *consumer.Delivery) error {
		if _, second := again.LoadOrStore(d.MessageId, true); second {
			begun <- d.MessageId + " again"
			return errors.New("not done") // so that it stays, if nobody else settles it
		}
		begun <- d.MessageId
		if d.MessageId != "m1" {
			<-release
		}
		return nil
	})
	for range 3 {
		kit.Receive(t, begun, "delivery")
	}
	proxy.Cut()
	for range 2 {
		if m := kit.Receive(t, begun, "redelivery"); !strings.HasSuffix(m, "again") {
			t.Errorf("got %s, want a redelivery", m)
		}
	}
	close(release) // the old session's handlers of m2 and m3 succeed now
	r.StopClean()
	wire.ExpectTrueSettlements(t)
	if acked := wire.Of(amqptest.Acked); len(acked) != 1 || acked[0].MessageID != "m1" {
		t.Errorf("acked on the wire: %+v, want m1 alone", acked)
	}
	b.ExpectLeft(queue, 2)
}

func TestS28DeliveriesOfALostSessionThatNoHandlerBeganAreDropped(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	wire := kit.Observe(proxy)
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(nil)
	const n = 10
	var handled [n]atomic.Int64
	first, release := make(chan struct{}, n), make(chan struct{})
	var began atomic.Bool
	b.Publish(queue, kit.Numbers(n)...)
	last := proxy.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.Delivered && e.MessageID == fmt.Sprint(n-1) })
	done := make(chan struct{}, 2*n)
	r := b.Start(consumer.Config{Queue: queue, Prefetch: n}, func(_ context.Context, d *consumer.Delivery) error {
		if !began.Swap(true) {
			first <- struct{}{}
			<-release
		}
		var i int
		if _, err := fmt.Sscan(d.MessageId, &i); err != nil {
			return consumer.Reject(err)
		}
		handled[i].Add(1)
		done <- struct{}{}
		return nil
	})
	kit.Receive(t, first, "delivery")
	kit.Receive(t, last, "last delivery") // nine lie in the buffer now
	proxy.Cut()
	if err := proxy.AwaitLinks(b.Ctx(), 1); err != nil {
		t.Fatal(err)
	}
	close(release)
	for range n + 1 { // the one that had begun, and all ten of the new session
		kit.Receive(t, done, "handled message")
	}
	r.StopClean()
	for i := range handled {
		if got, most := handled[i].Load(), int64(1); got != most && (i != 0 || got != 2) {
			t.Errorf("message %d was handled %d times, want %d (2 for the one that had begun)", i, got, most)
		}
	}
	wire.ExpectTrueSettlements(t)
	b.ExpectLeft(queue, 0)
}

func TestS29NothingIsSettledTwice(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	wire := kit.Observe(proxy)
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(nil)
	const n = 500
	b.Publish(queue, kit.Numbers(n)...)
	done := make(chan struct{}, 4*n)
	r := b.Start(consumer.Config{Queue: queue, Workers: 8}, func(_ context.Context, d *consumer.Delivery) error {
		for _, settle := range []func() error{
			func() error { return d.Ack(false) }, func() error { return d.Nack(false, true) }, func() error { return d.Reject(false) },
		} {
			if err := settle(); !errors.Is(err, consumer.ErrAlreadySettled) {
				t.Errorf("a handler settles its delivery: %v", err)
			}
		}
		done <- struct{}{}
		return nil
	})
	for i := range n {
		kit.Receive(t, done, "handled message")
		if i == n/3 || i == 2*n/3 {
			proxy.Cut()
		}
	}
	r.StopClean()
	if d, ok, err := consumer.Get(b.Ctx(), b.Conn, queue); err != nil {
		t.Fatal(err)
	} else if ok { // came back with a cut
		if err := d.Ack(false); err != nil {
			t.Error(err)
		}
		if err := d.Ack(false); !errors.Is(err, consumer.ErrAlreadySettled) {
			t.Errorf("second Ack = %v, want ErrAlreadySettled", err)
		}
	}
	wire.ExpectTrueSettlements(t)
}

// An ack on a dead link is lost without an error: nobody can know. What amqpkit can do is to say so, deliver the
// message again, and pass the flag on.
func TestS30AnAckOnADeadLinkComesBackFlaggedAsRedelivered(t *testing.T) {
	kit.NeedsControl(t)
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(nil)
	b.Publish(queue, "m")
	begun, release := make(chan bool, 2), make(chan struct{})
	r := b.Start(consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		begun <- d.Redelivered
		<-release
		return nil
	})
	if kit.Receive(t, begun, "delivery") {
		t.Error("the first delivery is flagged as redelivered")
	}
	proxy.Blackhole(amqptest.FromClient)
	release <- struct{}{} // acked into the void
	proxy.Cut()
	proxy.Clear()
	if !kit.Receive(t, begun, "redelivery") {
		t.Error("the second delivery is not flagged as redelivered")
	}
	close(release)
	r.StopClean()
	b.ExpectLeft(queue, 0)
}

func TestS31ADeletedQueueIsConsumedAgainWithinASecondOfBeingThere(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	got := make(chan string, 2)
	r := b.Start(consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		got <- d.MessageId
		return nil
	})
	for range 3 {
		if err := b.Broker.DeleteQueue(b.Ctx(), queue); err != nil {
			t.Fatal(err)
		}
		var failed *consumer.SubscribeError
		kit.WaitFor(t, func() bool { return errors.As(r.Err(), &failed) })
		b.Declare(queue, "quorum", nil)
		b.Publish(queue, "m")
		there := time.Now()
		kit.Receive(t, got, "message")
		took := time.Since(there)
		t.Logf("consumed again %v after the queue was there", took.Round(time.Millisecond))
		if took > time.Second {
			t.Errorf("consumed again after %v, want 1 s at most", took)
		}
	}
	r.StopClean()
	b.ExpectLeft(queue, 0)
}

func TestS32ASlowHandlerKeepsNoMoreThanThePrefetchInMemory(t *testing.T) {
	b := kit.NewConsumerBench(t)
	if _, err := consumer.New(b.Conn, consumer.Config{Queue: "q", Prefetch: 65536}, func(context.Context, *consumer.Delivery) error { return nil }); err == nil {
		t.Error("a prefetch of 65536 is accepted")
	}
	queue := b.Queue(nil)
	const n, workers, prefetch = 200, 2, 32 // the default
	b.Publish(queue, kit.Numbers(n)...)
	begun, release := make(chan struct{}, n), make(chan struct{})
	r := b.Start(consumer.Config{Queue: queue, Workers: workers}, func(context.Context, *consumer.Delivery) error {
		begun <- struct{}{}
		<-release
		return nil
	})
	for range workers {
		kit.Receive(t, begun, "delivery")
	}
	kit.WaitFor(t, func() bool { c, err := b.Broker.Queue(b.Ctx(), queue); return err == nil && c.Unacked > workers })
	if c, err := b.Broker.Queue(b.Ctx(), queue); err != nil || c.Unacked != prefetch {
		t.Errorf("%d deliveries are unsettled (%v), want the default prefetch of %d", c.Unacked, err, prefetch)
	}
	close(release)
	r.StopClean()
}

func TestS34WhatNoHandlerBeganGoesBackAtTheEndOfCtx(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(nil)
	b.Publish(queue, kit.Numbers(6)...)
	last := proxy.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.Delivered && e.MessageID == "5" })
	begun, release := make(chan struct{}, 6), make(chan struct{})
	r := b.Start(consumer.Config{Queue: queue, Prefetch: 6}, func(context.Context, *consumer.Delivery) error {
		begun <- struct{}{}
		<-release
		return nil
	})
	kit.Receive(t, begun, "delivery")
	kit.Receive(t, last, "last delivery")
	r.End()
	back := time.Now()
	if err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool { return c.Ready == 5 && c.Unacked == 1 }); err != nil {
		t.Fatal(err) // the handler still runs
	}
	t.Logf("five went back %v after the end of ctx, with the handler running", time.Since(back).Round(time.Millisecond))
	close(release)
	if err := kit.Receive(t, r.Done, "Run's return"); err != nil {
		t.Errorf("Run = %v", err)
	}
	if n := len(begun); n != 0 {
		t.Errorf("%d more handlers began after the end of ctx", n)
	}
	b.ExpectLeft(queue, 5)
}

func TestS34RunEndsInTimeOnADeadLink(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(nil)
	b.Publish(queue, kit.Numbers(3)...)
	begun := make(chan struct{}, 3)
	r := b.Start(consumer.Config{Queue: queue, DrainTimeout: time.Second}, func(context.Context, *consumer.Delivery) error {
		begun <- struct{}{}
		return nil
	})
	for range 3 {
		kit.Receive(t, begun, "delivery")
	}
	b.Publish(queue, "left")
	kit.Receive(t, begun, "delivery")
	proxy.Blackhole(amqptest.BothDirections)
	ended := time.Now()
	err := r.Stop()
	took := time.Since(ended)
	t.Logf("Run returned after %v: %v", took.Round(time.Millisecond), err)
	if most := 5*time.Second + 250*time.Millisecond; took > most { // the calls' bound, see Run
		t.Errorf("Run returned after %v, want %v at most", took, most)
	}
	proxy.Cut()
	proxy.Clear()
}

func TestS35APanicOrAHangingHandlerDisturbsNoOther(t *testing.T) {
	b := kit.NewConsumerBench(t)
	dead := b.Queue(amqp.Table{"x-delivery-limit": -1})
	queue := b.Queue(amqp.Table{"x-delivery-limit": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	b.Publish(queue, "panic", "hang", "1", "2", "3", "4")
	var log kit.Logbook
	done, ended := make(chan string, 10), make(chan error, 2)
	r := b.Start(consumer.Config{
		Queue: queue, Workers: 3, Prefetch: 6, HasDeadLetterExchange: true, Logger: log.Logger(),
		Middleware: []consumer.Middleware{consumer.Timeout(200 * time.Millisecond)},
	}, func(ctx context.Context, d *consumer.Delivery) error {
		switch d.MessageId {
		case "panic":
			panic("index out of range")
		case "hang":
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return context.Cause(ctx)
		}
		done <- d.MessageId
		return nil
	})
	for range 4 {
		kit.Receive(t, done, "message of the others")
	}
	if err := kit.Receive(t, ended, "end of the hanging handler"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the hanging handler's ctx ended with %v", err)
	}
	got := map[string]bool{}
	for range 2 { // each twice, then the limit
		got[b.Take(dead).MessageId] = true
	}
	if !got["panic"] || !got["hang"] {
		t.Errorf("dead-lettered: %v, want panic and hang", got)
	}
	r.StopClean()
	b.ExpectLeft(queue, 0)
	if log.Count("handler panicked") != 2 {
		t.Errorf("%d panics in the log, want 2", log.Count("handler panicked"))
	}
}

// A nack with requeue is not counted on RabbitMQ 4.3 and would go round for ever; a reject is counted.
func TestS36AFailingMessageEndsAtTheDeliveryLimit(t *testing.T) {
	kit.Needs43(t)
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	wire := kit.Observe(proxy)
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(amqp.Table{"x-delivery-limit": 2})
	b.Publish(queue, "m")
	var log kit.Logbook
	begun := make(chan time.Time, 100)
	r := b.Start(consumer.Config{Queue: queue, Logger: log.Logger()}, func(context.Context, *consumer.Delivery) error {
		begun <- time.Now()
		return errors.New("out of order")
	})
	var at [3]time.Time
	for i := range at {
		at[i] = kit.Receive(t, begun, "delivery")
	}
	kit.WaitFor(t, func() bool { return len(wire.Of(amqptest.Rejected)) == 3 })
	r.StopClean()
	b.ExpectLeft(queue, 0)
	t.Logf("delivered 3 times, held %v and %v", at[1].Sub(at[0]).Round(time.Millisecond), at[2].Sub(at[1]).Round(time.Millisecond))
	if at[1].Sub(at[0]) < time.Second || at[2].Sub(at[1]) < 2*time.Second {
		t.Errorf("delivered at %v: no pause between the failures", at)
	}
	if n := len(wire.Of(amqptest.DeliveryNacked)); n != 0 {
		t.Errorf("%d nacks, want only rejects", n)
	}
	if log.Count("has no dead-letter exchange") != 1 {
		t.Error("nobody was warned that the message is dropped")
	}
}

// With the shortest timeout that RabbitMQ before 4.3 would look for, too: a minute.
func TestS37AConsumerTimeoutIsFollowedByConsumingAgainWithinASecond(t *testing.T) {
	kit.Needs43(t)
	t.Parallel()
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	wire := kit.Observe(proxy)
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(amqp.Table{"x-consumer-timeout": 60_000})
	b.Publish(queue, "slow")
	cancelled := proxy.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.Cancelled && e.From == amqptest.FromBroker })
	again := make(chan struct{}, 1)
	release := make(chan struct{})
	var log kit.Logbook
	r := b.Start(consumer.Config{Queue: queue, Workers: 2, Logger: log.Logger()}, func(_ context.Context, d *consumer.Delivery) error {
		if d.Redelivered {
			again <- struct{}{}
			return nil
		}
		<-release
		return nil
	})
	began := time.Now()
	select {
	case <-cancelled:
	case <-time.After(100 * time.Second):
		t.Fatal("RabbitMQ did not cancel the consumer within 100 s")
	}
	at := time.Now()
	kit.Receive(t, again, "redelivery")
	took := time.Since(at)
	t.Logf("cancelled after %v, consumed again %v later", at.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond))
	if took > time.Second {
		t.Errorf("consumed again after %v, want 1 s at most", took)
	}
	close(release)
	r.StopClean()
	wire.ExpectTrueSettlements(t)
	b.ExpectLeft(queue, 0)
	if log.Count("had been unsettled for 1m0")+log.Count("had been unsettled for 59.9") == 0 {
		t.Error("the log does not tell the cause")
	}
}

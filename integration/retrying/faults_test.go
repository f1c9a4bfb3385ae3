package retrying

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// Copies there may be more than one of, each of which keeps to the policy.
func TestS43NothingIsLostAndNoCopyExceedsThePolicyWhileConnectionsAreKilledEverySecond(t *testing.T) {
	const messages, kills = 400, 8
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(300*time.Millisecond, 700*time.Millisecond)}, proxy.URL())
	var log callLog
	b.start(8, func(ctx context.Context, d *consumer.Delivery) error {
		select {
		case <-time.After(2 * time.Millisecond): // the work
		case <-ctx.Done():
		}
		return log.fail(ctx, d)
	})
	killed := make(chan int)
	go func() {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		links := 0
		for range kills {
			<-every.C
			links += proxy.Cut()
		}
		killed <- links
	}()
	pace := time.NewTicker(kills * time.Second / messages)
	defer pace.Stop()
	for i := range messages {
		b.publish(amqp.Publishing{MessageId: fmt.Sprint(i), DeliveryMode: amqp.Persistent, Body: fmt.Appendf(nil, "body %d", i)})
		<-pace.C // spread over the kills
	}
	links := <-killed

	// Everything is over when nothing waits, nothing is in hand, and a handler was not called for longer than any delay.
	found := map[string]int{}
	parked, err := b.raw.ConsumeWithContext(t.Context(), b.plan.ParkingQueue(), "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for quiet := false; !quiet; {
		select {
		case d := <-parked:
			found[d.MessageId]++
			if string(d.Body) != "body "+d.MessageId || d.Headers[history.HeaderAttempts] != int64(3) {
				t.Errorf("message %s was parked after %v attempts with body %q, want 3", d.MessageId, d.Headers[history.HeaderAttempts], d.Body)
			}
		case <-time.After(3 * time.Second):
			quiet = b.waiting() == 0
		case <-kit.Within(t, 90*time.Second).Done():
			t.Fatal("it does not come to an end")
		}
	}
	copies, calls := 0, 0
	for i := range messages {
		id := fmt.Sprint(i)
		if found[id] == 0 {
			t.Errorf("message %s is lost", id)
		}
		copies += found[id]
		for _, c := range log.of(id) {
			calls++
			if c.attempt > 3 {
				t.Errorf("message %s: attempt %d", id, c.attempt)
			}
		}
	}
	t.Logf("%d links killed; %d messages, none lost, %d copies parked, %d calls", links, messages, copies, calls)
}

// In the meantime the handler is not called again: it has had its attempts.
func TestAMessageStaysInItsQueueWhileTheParkingQueueIsMissingOrFull(t *testing.T) {
	const messages = 5
	for _, state := range []string{"missing", "full"} {
		t.Run(state, func(t *testing.T) {
			b := newRetryBench(t, retry.Config{Policy: retry.Schedule(100 * time.Millisecond)}, "")
			var log callLog
			b.start(2, log.fail)
			if _, err := b.conn.PublishConnection(kit.Within(t, 10*time.Second)); err != nil { // Setup declares the queue for both sessions
				t.Fatal(err)
			}
			parking := b.plan.ParkingQueue()
			if _, err := b.raw.QueueDelete(parking, false, false, false); err != nil {
				t.Fatal(err)
			}
			if state == "full" {
				b.fill(parking)
			}
			for i := range messages {
				b.publish(amqp.Publishing{MessageId: fmt.Sprint(i)})
			}
			kit.WaitFor(t, func() bool {
				for i := range messages {
					if len(log.of(fmt.Sprint(i))) < 2 {
						return false
					}
				}
				return true
			})
			if _, err := b.raw.QueueDelete(parking, false, false, false); err != nil {
				t.Fatal(err)
			}
			if err := b.plan.Declare(kit.Within(t, 10*time.Second), kit.DialRaw(t)); err != nil {
				t.Fatal(err)
			}
			parked, err := b.raw.ConsumeWithContext(t.Context(), parking, "", true, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			for len(got) < messages {
				got[kit.Receive(t, parked, "parked message").MessageId]++
			}
			for i := range messages {
				id := fmt.Sprint(i)
				if len(log.of(id)) != 2 {
					t.Errorf("message %s: parked %d times after %d calls, want 2", id, got[id], len(log.of(id)))
				}
				// RabbitMQ 4.0.5 closes the connection over what is on its way to a queue that is deleted and declared again: that
				// may leave a copy.
				if copies := got[id] - 1; copies > 0 && state == "missing" {
					t.Errorf("message %s: %d copies", id, copies)
				}
			}
			kit.WaitFor(t, func() bool { return b.waiting() == 0 })
		})
	}
}

// fill declares a queue that refuses what is published to it.
func (b *retryBench) fill(queue string) {
	b.t.Helper()
	full := topology.Topology{Queues: []topology.Queue{{Name: queue, MaxLength: 1, Overflow: topology.RejectPublish}}}
	if err := full.Declare(kit.Within(b.t, 10*time.Second), kit.DialRaw(b.t)); err != nil {
		b.t.Fatal(err)
	}
	for taken := true; taken; { // a quorum queue takes a few more than its length
		c, err := b.raw.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{})
		if err != nil {
			b.t.Fatal(err)
		}
		if taken, err = c.WaitContext(kit.Within(b.t, 10*time.Second)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// A watched is a Publisher that tells when a publish was refused.
type watched struct {
	*producer.Producer
	refused chan struct{}
}

func (w watched) Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	err := w.Producer.Republish(ctx, exchange, key, msg)
	if err != nil {
		select {
		case w.refused <- struct{}{}:
		default:
		}
	}
	return err
}

// RabbitMQ counts lost connections, and before 4.3 each return. A message that has nowhere to go nears its delivery
// limit by them, at which it would be dropped: the queue has no dead-letter exchange.
func TestAMessageBelowALowDeliveryLimitOutlivesAMissingQueue(t *testing.T) {
	const limit, losses = 2, 6
	for missing, want := range map[string]struct {
		policy   retry.Policy
		attempts int64
	}{
		".wait.5s": {retry.Schedule(5 * time.Second), 2},
		".parked":  {retry.Schedule(5 * time.Second).MaxAttempts(1), 1},
	} {
		t.Run(missing, func(t *testing.T) {
			name := kit.Unique("retry")
			existing := topology.Topology{Queues: []topology.Queue{{Name: name, DeliveryLimit: new(limit)}}}
			plan, err := retry.New(retry.Config{Queue: name, Policy: want.policy, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			kit.DeleteAfter(t, existing)
			kit.DeleteAfter(t, plan.Topology())
			ctx := kit.Within(t, time.Minute)
			if err := errors.Join(existing.Declare(ctx, kit.DialRaw(t)), plan.Declare(ctx, kit.DialRaw(t))); err != nil {
				t.Fatal(err)
			}
			raw := kit.RawChannel(t)
			if _, err := raw.QueueDelete(name+missing, false, false, false); err != nil {
				t.Fatal(err)
			}

			proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
			conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}, Logger: slog.New(slog.DiscardHandler)}) // its Setup would declare what is missing
			p := watched{kit.NewProducer(t, conn, producer.Config{Logger: slog.New(slog.DiscardHandler)}), make(chan struct{})}
			var log callLog
			c, err := consumer.New(conn, consumer.Config{
				Queue: name, Logger: slog.New(slog.DiscardHandler), Middleware: []consumer.Middleware{plan.Middleware(p)},
			}, log.fail)
			if err != nil {
				t.Fatal(err)
			}
			running, end := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- c.Run(running) }()
			if err := p.Producer.Publish(ctx, "", name, amqp.Publishing{MessageId: "m"}); err != nil {
				t.Fatal(err)
			}
			for range losses {
				kit.Receive(t, p.refused, "refusal") // the message is in hand
				proxy.Cut()
			}
			if err := plan.Declare(ctx, kit.DialRaw(t)); err != nil {
				t.Fatal(err)
			}
			if err := p.Producer.Publish(ctx, "", name, amqp.Publishing{MessageId: "next"}); err != nil {
				t.Fatal(err)
			}
			parked, err := raw.ConsumeWithContext(ctx, plan.ParkingQueue(), "", true, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			for found := map[string]bool{}; !found["m"] || !found["next"]; { // of m there may be copies
				d := kit.Receive(t, parked, "parked message")
				found[d.MessageId] = true
				if n := d.Headers[history.HeaderAttempts]; n != want.attempts {
					t.Errorf("message %s is parked after %v attempts, want %d", d.MessageId, n, want.attempts)
				}
			}
			end()
			if err := <-ran; err != nil {
				t.Errorf("Run = %v", err)
			}
			t.Logf("%d calls for %s, %d connections lost", len(log.of("m")), want.policy, losses)
		})
	}
}

// A policy may make any queue small. One that refuses what it has no room for has nobody lose anything.
func TestNothingIsLostWhereAPolicyMakesTheParkingQueueSmall(t *testing.T) {
	const messages = 4
	x := kit.NeedsControl(t)
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(100 * time.Millisecond).MaxAttempts(1)}, "")
	ctx := kit.Within(t, time.Minute)
	policy := func(args ...string) {
		t.Helper()
		if out, err := x.Ctl(ctx, args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	policy("set_policy", b.name, "^"+b.name+"\\.parked$", `{"max-length":1}`, "--apply-to", "queues")
	var log callLog
	b.start(2, log.fail)
	for i := range messages {
		b.publish(amqp.Publishing{MessageId: fmt.Sprint(i)})
	}
	kit.WaitFor(t, func() bool {
		n := 0
		for i := range messages {
			n += len(log.of(fmt.Sprint(i)))
		}
		return n >= messages && b.ready(b.plan.ParkingQueue()) > 0
	})
	policy("clear_policy", b.name)
	if got := kit.Copies(b.parked(messages)); len(got) != messages {
		t.Errorf("%d of %d messages are parked: %v", len(got), messages, got)
	}
}

package topology

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/topology"
)

// delaying is a queue that delays failed messages and parks them after the third failure.
func delaying(name func(string) string) topology.Topology {
	return topology.Topology{Queues: []topology.Queue{
		{
			Name:          name("orders"),
			DelayedRetry:  &topology.DelayedRetry{Min: 200 * time.Millisecond, Max: 300 * time.Millisecond},
			DeliveryLimit: new(3),
			DeadLetter:    &topology.DeadLetter{RoutingKey: name("parked"), Strategy: topology.AtLeastOnce},
			Overflow:      topology.RejectPublish,
		},
		{Name: name("parked"), DeliveryLimit: new(topology.Unlimited)},
	}}
}

func TestDelayedRetryDelaysEachAttemptAndParksTheLastFailure(t *testing.T) {
	kit.Needs43(t)
	name := kit.Prefixed(t)
	topo := delaying(name)
	kit.Declared(t, kit.DialRaw(t), topo)
	b := kit.NewConsumerBench(t)
	stalled := kit.SchedulingDelay(t)
	bodies := []string{"a", "b", "c", "d", "e"}
	b.Publish(name("orders"), bodies...)

	var mu sync.Mutex
	attempts := map[string][]time.Time{}
	healed := make(chan string, 1)
	r := b.Start(consumer.Config{Queue: name("orders"), Prefetch: 1}, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		body := string(d.Body)
		attempts[body] = append(attempts[body], time.Now())
		if body == "c" && len(attempts[body]) == 2 {
			healed <- body
			return nil
		}
		return consumer.RejectRequeue(errors.New("the warehouse is closed")) // rejected with requeue
	})
	kit.Receive(t, healed, "second attempt")
	for _, d := range kit.Take(t, name("parked"), 4) {
		deaths, _ := d.Headers["x-death"].([]any)
		if death, _ := deaths[0].(amqp.Table); death["reason"] != "delivery_limit" || death["queue"] != name("orders") {
			t.Errorf("message %s was parked with %v", d.Body, d.Headers)
		}
	}
	r.StopClean()

	for _, body := range bodies {
		want := []time.Duration{200 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond}
		if body == "c" {
			want = want[:1]
		}
		if len(attempts[body]) != len(want)+1 {
			t.Errorf("message %s: %d attempts, want %d", body, len(attempts[body]), len(want)+1)
			continue
		}
		for i, delay := range want {
			gap := attempts[body][i+1].Sub(attempts[body][i])
			if gap < delay-time.Millisecond || gap > delay+delay/10+100*time.Millisecond+stalled() {
				t.Errorf("message %s: attempt %d came after %v, want %v", body, i+2, gap, delay)
			}
		}
	}
	b.ExpectLeft(name("orders"), 0)
}

// A message that fails does not occupy the prefetch, and a postponed one is not delayed.
func TestDelayedRetryLetsOtherMessagesPass(t *testing.T) {
	kit.Needs43(t)
	name := kit.Prefixed(t)
	topo := delaying(name)
	topo.Queues[0].DelayedRetry = &topology.DelayedRetry{Min: time.Hour}
	kit.Declared(t, kit.DialRaw(t), topo)
	b := kit.NewConsumerBench(t)
	b.Publish(name("orders"), "fails", "postponed", "works")
	handled := make(chan string, 10)
	r := b.Start(consumer.Config{Queue: name("orders"), Prefetch: 1}, func(_ context.Context, d *consumer.Delivery) error {
		handled <- fmt.Sprint(string(d.Body), d.Redelivered)
		switch {
		case string(d.Body) == "fails":
			return consumer.RejectRequeue(nil)
		case string(d.Body) == "postponed" && !d.Redelivered:
			return consumer.Requeue(0)
		}
		return nil
	})
	seen := map[string]bool{}
	for range 4 {
		seen[kit.Receive(t, handled, "delivery")] = true
	}
	for _, want := range []string{"failsfalse", "postponedfalse", "postponedtrue", "worksfalse"} {
		if !seen[want] {
			t.Errorf("handled %v, want %s among them", seen, want)
		}
	}
	r.StopClean()
}

func TestS83ADelayedRetryIsRefusedByABrokerThatIgnoresIt(t *testing.T) {
	ac, topo := kit.DialRaw(t), delaying(kit.Prefixed(t))
	if kit.Broker(t).AtLeast(4, 3) {
		ac = kit.AsIf(ac, "4.2.1")
	}
	f, ok := errors.AsType[*amqperr.FieldError](topo.Declare(t.Context(), ac))
	if !ok || f.Broker == "" || f.Permanent() {
		t.Errorf("Declare = %v, want a FieldError for the broker's version", f)
	}
}

// RabbitMQ counts a lost connection as a failure of each unacknowledged message, also of messages that no handler received. A limit above
// the number of losses leaves room for that: no message is parked that no handler failed.
func TestS80LostConnectionsDoNotParkUnhandledMessages(t *testing.T) {
	kit.Needs43(t)
	name := kit.Prefixed(t)
	topo := delaying(name)
	topo.Queues[0].DelayedRetry = &topology.DelayedRetry{Min: 10 * time.Millisecond}
	topo.Queues[0].DeliveryLimit = new(5)
	kit.Declared(t, kit.DialRaw(t), topo)
	b := kit.NewConsumerBench(t)
	b.Publish(name("orders"), "a", "b", "c", "d", "e")

	var counted atomic.Int64
	called, next := make(chan string, 5), make(chan struct{})
	r := b.Start(consumer.Config{Queue: name("orders"), Prefetch: 10}, func(_ context.Context, d *consumer.Delivery) error {
		if n, _ := d.Headers["x-delivery-count"].(int64); n > 0 {
			counted.Add(1)
		}
		called <- string(d.Body)
		<-next
		return nil
	})
	for range 3 {
		kit.Receive(t, called, "delivery")
		b.Cut()
		next <- struct{}{} // the result is too late for its connection
	}
	close(next)
	go func() {
		for range called { // some of the calls after the losses may belong to lost connections
		}
	}()
	err := b.Broker.AwaitQueue(b.Ctx(), name("orders"), func(c rabbit.Counts) bool { return c.Ready+c.Unacked == 0 })
	if err != nil {
		t.Fatal(err)
	}
	if counted.Load() == 0 {
		t.Error("RabbitMQ counted none of the losses")
	}
	r.StopClean()
	close(called)
	b.ExpectLeft(name("parked"), 0)
}

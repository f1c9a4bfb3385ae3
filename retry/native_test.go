package retry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

func TestAQueueThatDelaysByItselfFollowsThePolicy(t *testing.T) {
	for name, c := range map[string]struct {
		policy retry.Policy
		want   []time.Duration
	}{
		"linear":        {retry.Linear(s, 3*s).MaxAttempts(6), []time.Duration{s, 2 * s, 3 * s, 3 * s, 3 * s}},
		"one delay":     {retry.Schedule(time.Minute).MaxAttempts(30), slices.Repeat([]time.Duration{time.Minute}, 29)},
		"with a rest":   {retry.Linear(2*s, 5*s), []time.Duration{2 * s, 4 * s, 5 * s}},
		"never":         {retry.Schedule(s).MaxAttempts(1), nil},
		"cut":           {retry.Linear(s, 3*s).MaxAttempts(2), []time.Duration{s}},
		"as a schedule": {retry.Schedule(s, 2*s), []time.Duration{s, 2 * s}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, retry.Config{Policy: c.policy, Native: true}, func(b *bench) {
				var got calls
				b.run(got.fail(errBoom))
				b.publish(amqp.Publishing{Body: []byte("m"), Headers: amqp.Table{"x-delivery-count": int64(50)}})
				m := b.parked(time.Hour)
				if gaps := got.gaps(); got.count() != len(c.want)+1 || !slices.Equal(gaps, c.want) {
					t.Errorf("%d calls, at distances of %v, want %v", got.count(), gaps, c.want)
				}
				for i, n := range got.attempts {
					if n != i+1 {
						t.Errorf("call %d was told to be attempt %d", i+1, n)
					}
				}
				if m.Headers[history.HeaderAttempts] != int64(len(c.want)+1) || m.Headers[history.HeaderError] != "boom" || m.Headers["x-delivery-count"] != nil {
					t.Errorf("parked with %v", m.Headers)
				}
				if first := m.Headers[history.HeaderFirstFailure]; (first != nil) != (len(c.want) == 0) {
					t.Errorf("first failure %v, which only the first attempt can know", first)
				}
			})
		})
	}
}

func TestInAQueueThatDelaysByItself(t *testing.T) {
	native := retry.Config{Policy: retry.Schedule(10 * s).MaxAttempts(3), Native: true, Rules: []retry.Rule{retry.OnError(errGone, retry.Discard)}}
	t.Run("a postponed message has not failed", func(t *testing.T) {
		bubble(t, native, func(b *bench) {
			var got calls
			results := []error{consumer.Requeue(s), errBoom, consumer.Requeue(s), errBoom, errGone}
			b.run(func(ctx context.Context, d *consumer.Delivery) error { return got.fail(results[got.count()])(ctx, d) })
			b.publish(amqp.Publishing{})
			left := b.messages("orders.parked", time.Hour)
			if want := []time.Duration{s, 10 * s, s, 10 * s}; len(left) != 0 || !slices.Equal(got.gaps(), want) || !slices.Equal(got.attempts, []int{1, 1, 2, 2, 3}) {
				t.Errorf("%d parked, calls at distances of %v and attempts %v, want none, %v and 1, 1, 2, 2, 3", len(left), got.gaps(), got.attempts, want)
			}
		})
	})
	t.Run("a permanent failure is parked at once", func(t *testing.T) {
		bubble(t, native, func(b *bench) {
			var got calls
			b.run(got.fail(amqperr.Permanent(errBoom)))
			b.publish(amqp.Publishing{})
			if m := b.parked(time.Hour); got.count() != 1 || m.Headers[history.HeaderReason] != history.ReasonPermanent {
				t.Errorf("%d calls, parked for %v", got.count(), m.Headers[history.HeaderReason])
			}
		})
	})
	t.Run("lost connections count, and the policy is not exceeded", func(t *testing.T) {
		bubble(t, native, func(b *bench) {
			var got calls
			b.publish(amqp.Publishing{}) // before anything is cut, which would have it sent again
			b.run(func(ctx context.Context, d *consumer.Delivery) error {
				if _ = got.fail(nil)(ctx, d); got.count() < 3 {
					b.DropConnections()
				}
				return errBoom
			})
			m := b.parked(time.Hour)
			if got.count() != 3 || m.Headers[history.HeaderAttempts] != int64(3) || m.Headers[history.HeaderReason] != history.ReasonAttempts {
				t.Errorf("%d calls, parked with %v", got.count(), m.Headers)
			}
		})
	})
	t.Run("a message stays while the parking queue is missing", func(t *testing.T) {
		bubble(t, native, func(b *bench) {
			var got calls
			b.run(got.fail(errBoom))
			b.deleteQueue("orders.parked")
			b.publish(amqp.Publishing{})
			b.held(time.Hour)
			b.declare()
			if b.parked(2 * time.Minute); got.count() != 3 {
				t.Errorf("%d calls, want 3", got.count())
			}
		})
	})
}

func TestNativeRefusesWhatAQueueCannotDelay(t *testing.T) {
	ok := retry.Config{Queue: "q", Policy: retry.Linear(s, 3*s), Native: true, Source: &topology.Queue{}}
	for name, c := range map[string]struct {
		change func(*retry.Config)
		field  string
	}{
		"nothing":       {func(*retry.Config) {}, ""},
		"no source":     {func(c *retry.Config) { c.Source = nil }, "Native"},
		"classic":       {func(c *retry.Config) { c.Source = &topology.Queue{Type: topology.Classic} }, "Source.Type"},
		"limit":         {func(c *retry.Config) { c.Source = &topology.Queue{DeliveryLimit: new(3)} }, "Source.DeliveryLimit"},
		"ttl":           {func(c *retry.Config) { c.Source = &topology.Queue{MessageTTL: s} }, "Source.MessageTTL"},
		"single active": {func(c *retry.Config) { c.Source = &topology.Queue{SingleActiveConsumer: true} }, "Source.SingleActiveConsumer"},
		"single, raw": {func(c *retry.Config) {
			c.Source = &topology.Queue{Arguments: amqp.Table{"x-single-active-consumer": true}}
		}, "Source.SingleActiveConsumer"},
		"argument":       {func(c *retry.Config) { c.Source = &topology.Queue{Arguments: amqp.Table{"x-delayed-retry-min": 1}} }, "Source.Arguments"},
		"in the process": {func(c *retry.Config) { c.MaxInProcessDelay = s }, "MaxInProcessDelay"},
		"jitter":         {func(c *retry.Config) { c.Policy = c.Policy.Jitter(1) }, "Policy"},
		"age":            {func(c *retry.Config) { c.Policy = c.Policy.MaxAge(time.Hour) }, "Policy"},
		"exponential":    {func(c *retry.Config) { c.Policy = retry.Exponential(s, time.Minute) }, "Policy"},
		"a schedule":     {func(c *retry.Config) { c.Policy = retry.Schedule(s, 3*s) }, "Policy"},
		"another policy": {func(c *retry.Config) { c.Rules = []retry.Rule{retry.OnError(errBoom, retry.Schedule(s))} }, "Rules[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := ok
			c.change(&cfg)
			_, err := cfg.Plan()
			faults := fieldErrors(err)
			if (c.field == "") != (len(faults) == 0) || c.field != "" && (len(faults) != 1 || !strings.HasPrefix(faults[0].Field, c.field)) {
				t.Errorf("Plan = %v, want a fault in %q", err, c.field)
			}
		})
	}
}

func TestNativeRefusesABrokerThatWouldIgnoreIt(t *testing.T) {
	plan := planned(t, retry.Config{Queue: "q", Policy: retry.Schedule(s), Native: true, Source: &topology.Queue{}})
	for _, p := range []amqp.Table{
		{"product": "RabbitMQ", "version": "4.2.9"}, {"product": "RabbitMQ", "version": "3.13.7"}, {"product": "LavinMQ", "version": "5.0.0"}, {"product": "RabbitMQ"}, {},
	} {
		err := plan.Declare(t.Context(), &amqp.Connection{Properties: p})
		var f *amqperr.FieldError
		if !errors.As(err, &f) || f.Field != "Native" {
			t.Errorf("Declare on %v = %v, want a FieldError", p, err)
		}
	}
}

func ExampleLinear() {
	fmt.Println(retry.Linear(time.Minute, 5*time.Minute))
	fmt.Println(retry.Linear(2*time.Second, 5*time.Second).MaxAttempts(10))
	plan, err := retry.Config{Queue: "orders", Policy: retry.Linear(time.Minute, 5*time.Minute), Native: true, Source: &topology.Queue{}}.Plan()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(plan)
	// Output:
	// 1m0s, 2m0s, 3m0s, 4m0s, 5m0s, then park
	// 2s, 4s, 5s ×7, then park
	// retry plan for queue orders
	//   any error: 1m0s, 2m0s, 3m0s, 4m0s, 5m0s, then park
	//   permanent, rejected: park at once
	//
	// waited in the queue itself, as Config.Native chose: no trip through another queue; a lost connection
	// counts as an attempt, but parks nothing by itself; needs RabbitMQ 4.3 and a quorum queue
	//
	//   orders ──▶ orders        (again, after 1m to 5m)
	//          ──▶ orders.parked
}

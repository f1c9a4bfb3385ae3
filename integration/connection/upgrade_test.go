package connection

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

func TestS83ANodeThatIsTooOldDoesNotEndAConnOrARun(t *testing.T) {
	t.Parallel()
	kit.Needs43(t)
	queue := kit.Unique("s83")
	plan, err := retry.New(retry.Config{Queue: queue, Source: &topology.Queue{}, Policy: retry.Schedule(1e9)})
	if err != nil {
		t.Fatal(err)
	}
	unlimited := topology.Queue{Name: kit.Unique("s83"), DeliveryLimit: new(topology.Unlimited)}
	var setups, declares atomic.Int64
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{Setup: func(ctx context.Context, ac *amqp.Connection) error {
		if setups.Add(1) == 2 {
			return plan.Declare(ctx, kit.AsIf(ac, "3.13.7"))
		}
		return plan.Declare(ctx, ac)
	}})
	for _, q := range append(plan.Topology().Queues, unlimited) {
		t.Cleanup(func() { _, _ = b.Plain.QueueDelete(q.Name, false, false, false) })
	}
	got := make(chan string, 1)
	var field *amqperr.FieldError
	r := b.Start(consumer.Config{Declare: func(ctx context.Context, ac *amqp.Connection) (string, error) {
		if declares.Add(1) == 2 {
			_, err := unlimited.Declare(ctx, kit.AsIf(ac, "3.13.7"))
			if !errors.As(err, &field) || field.Broker != "3.13.7" {
				t.Errorf("Declare = %v, want a *FieldError for the broker's version", err)
			}
			return "", err
		}
		return unlimited.Declare(ctx, ac)
	}}, kit.Bodies(got))
	b.Cut()
	b.Publish(unlimited.Name, "m")
	if m := kit.Receive(t, got, "message"); m != "m" {
		t.Errorf("got %q", m)
	}
	if setups.Load() < 3 || declares.Load() < 3 {
		t.Errorf("Setup ran %d times, Declare %d times", setups.Load(), declares.Load())
	}
	r.StopClean()
}

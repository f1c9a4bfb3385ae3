package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// A message that cannot be moved must not stay unacknowledged.
func TestAMessageThatTheProducerRefusesIsParkedByRabbitMQ(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		small, err := producer.New(b.conn, producer.Config{MaxMessageSize: 10, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		var got calls
		b.run(got.fail(errBoom), func(c *consumer.Config) { c.Middleware = []consumer.Middleware{b.plan.Middleware(small)} })
		b.publish(amqp.Publishing{Body: make([]byte, 11)})
		if m := b.parked(time.Minute); got.count() != 1 || len(m.Body) != 11 {
			t.Errorf("%d bytes are parked after %d calls, want 11 after one", len(m.Body), got.count())
		}
		if err := small.Close(b.t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Without a dead-letter target that keeps it, the message stays.
func TestAMessageThatTheProducerRefusesStaysWhereRejectingCouldLoseIt(t *testing.T) {
	refuses := publishing(func(context.Context, string, amqp.Publishing) error { return &amqperr.FieldError{Field: "Body"} })
	for name, source := range map[string]*topology.Queue{"declared elsewhere": nil, "not declared here": {}} {
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Source: source, Logger: quiet})
		var failed *retry.MoveError
		if err := plan.Middleware(refuses)(fails(errBoom))(t.Context(), &consumer.Delivery{Queue: "orders"}); !errors.As(err, &failed) {
			t.Errorf("%s: %v, want it requeued", name, err)
		}
	}
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s), Source: &topology.Queue{MaxLength: 10}}, func(b *bench) { // at most once
		b.run(fails(errBoom), func(c *consumer.Config) { c.Middleware = []consumer.Middleware{b.plan.Middleware(refuses)} })
		b.publish(amqp.Publishing{})
		b.held(time.Minute)
	})
}

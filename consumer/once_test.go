package consumer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
)

func TestRunHandlesMessagesUntilCtxEnds(t *testing.T) {
	b := newBench(t)
	b.publish("book")
	ctx, stop := context.WithCancel(t.Context())
	err := consumer.Run(ctx, b.conn, consumer.Config{Queue: "orders", Logger: quiet}, func(_ context.Context, d *consumer.Delivery) error {
		if string(d.Body) != "book" {
			t.Errorf("got %q", d.Body)
		}
		stop()
		return nil
	})
	if err != nil {
		t.Errorf("Run = %v", err)
	}
	if q, _ := b.Queue("orders"); q.Ready != 0 || q.Unacked != 0 {
		t.Errorf("the queue holds %+v, want it to be settled", q)
	}
	var field *amqperr.FieldError
	if err := consumer.Run(t.Context(), b.conn, consumer.Config{}, nil); !errors.As(err, &field) {
		t.Errorf("Run of an invalid Config = %v, want a *FieldError", err)
	}
}

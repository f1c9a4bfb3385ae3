package producer_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

func TestPublishingOnceReturnsTheOutcomeAndLeavesNoChannel(t *testing.T) {
	b := amqptest.Start(t)
	conn, err := amqpkit.Dial(t.Context(), b.URL(), topology.Queues("orders").Declare)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := producer.Publish(t.Context(), conn, "", "orders", amqp.Publishing{Body: []byte("book")}); err != nil {
		t.Errorf("Publish = %v", err)
	}
	if got := stored(b); len(got) != 1 || got[0] != "book" {
		t.Errorf("the queue holds %q", got)
	}
	var returned *producer.ReturnedError
	if err := producer.Publish(t.Context(), conn, "", "missing", amqp.Publishing{}); !errors.As(err, &returned) {
		t.Errorf("Publish to no queue = %v, want a *ReturnedError", err)
	}
	var field *amqperr.FieldError
	if err := producer.Publish(t.Context(), nil, "", "orders", amqp.Publishing{}); !errors.As(err, &field) {
		t.Errorf("Publish without a connection = %v, want a *FieldError", err)
	}
	lines := make(chan slog.Record, 10)
	if err := producer.Publish(t.Context(), source{conn, slog.New(logged{lines})}, "", "orders", amqp.Publishing{}); err != nil || len(lines) > 0 {
		t.Errorf("Publish = %v with %d log lines, want none", err, len(lines))
	}
	if n := b.Connections()[0].Channels; n != 0 {
		t.Errorf("%d channels are open", n)
	}
}

package amqpkit_test

import (
	"context"
	"errors"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/topology"
)

func TestDialRunsEachSetupInOrderUntilOneFails(t *testing.T) {
	b := amqptest.Start(t)
	refused := errors.New("refused")
	var runs []string
	step := func(name string, err error) func(context.Context, *amqp.Connection) error {
		return func(context.Context, *amqp.Connection) error {
			runs = append(runs, name)
			return err
		}
	}
	if _, err := amqpkit.Dial(within(t), b.URL(), step("a", nil), step("b", refused), step("c", nil)); !errors.Is(err, refused) {
		t.Errorf("Dial = %v, want %v", err, refused)
	}
	if len(runs) != 2 || runs[0] != "a" || runs[1] != "b" {
		t.Errorf("ran %q, want a and b", runs)
	}

	conn, err := amqpkit.Dial(within(t), b.URL(), topology.Queues("hello").Declare)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, ok := b.Queue("hello"); !ok {
		t.Error("Dial returned before its setup had declared the queue")
	}
}

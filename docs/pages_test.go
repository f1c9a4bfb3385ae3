package docs

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
)

// The functions in this file are the code of testing.md, retry.md and parking.md.

func TestPageTesting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	broker := amqptest.Start(t)                  // closed at the end of the test
	conn, err := amqpkit.Dial(ctx, broker.URL()) // or amqp.Dial, or pika
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	// Await checks the condition after each change, without sleeping or polling.
	err = broker.Await(ctx, func() bool { return len(broker.Connections()) == 1 })
	if err != nil {
		t.Fatal(err)
	}
}

func TestPageTestingInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := amqptest.Start(t, amqptest.Config{InMemory: true})
		conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{URLs: []string{broker.URL()}, Dialer: broker.Dial})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		time.Sleep(time.Hour) // passes at once
	})
}

var errOutOfStock = errors.New("out of stock")

// A ValidationError reports an order that is wrong.
type ValidationError struct{ error }

func planOrders(conn *amqpkit.Conn, p *producer.Producer, handler consumer.Handler) (*consumer.Consumer, error) {
	plan, err := retry.New(retry.Config{
		Queue:  "orders",
		Policy: retry.Schedule(10*time.Second, time.Minute),
		Rules: []retry.Rule{
			retry.OnType[*ValidationError](retry.Park),
			retry.OnError(errOutOfStock, retry.Schedule(time.Hour)),
		},
	})
	if err != nil {
		return nil, err
	}
	return consumer.New(conn, consumer.Config{
		Queue: "orders", Middleware: []consumer.Middleware{plan.Middleware(p)},
	}, handler)
}

func parked(ctx context.Context, conn *amqpkit.Conn, p *producer.Producer, plan *retry.Plan) (err error) {
	messages, err := parking.Peek(ctx, conn, plan.ParkingQueue(), 10)
	if err != nil {
		return err
	}
	_ = messages

	result, err := parking.Replay(ctx, conn, p, parking.ReplayConfig{
		Queue: plan.ParkingQueue(),
		Match: func(m parking.Message) bool {
			return m.ErrorType == "*net.OpError" && time.Since(m.LastFailure) > time.Hour
		},
		Rate: 100,
	})
	if err != nil {
		return err
	}
	_ = result

	file, err := os.Create("parked.jsonl")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = parking.Export(ctx, conn, plan.ParkingQueue(), file)
	return err
}

func restore(ctx context.Context, p *producer.Producer, plan *retry.Plan) error {
	file, err := os.Open("parked.jsonl")
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = parking.Import(ctx, p, plan.ParkingQueue(), file)
	return err
}

var _ = []any{planOrders, parked, restore}

package parking_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

const s = time.Second

var (
	quiet   = slog.New(slog.DiscardHandler)
	errBoom = errors.New("boom")
)

// A bench is a broker in memory with the clock of testing/synctest, and a retry plan for the queue orders: two attempts.
type bench struct {
	*amqptest.Broker
	t        *testing.T
	conn     *amqpkit.Conn
	producer *producer.Producer
	plan     *retry.Plan
}

// bubble runs a test with a bench in a bubble of testing/synctest: hours pass in no time.
func bubble(t *testing.T, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newBench(t)) })
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, Broker: amqptest.Start(t, amqptest.Config{InMemory: true})}
	var err error
	if b.plan, err = retry.New(retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Source: &topology.Queue{}, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	b.conn, err = amqpkit.DialConfig(t.Context(), amqpkit.Config{URLs: []string{b.URL()}, Dialer: b.Dial, Setup: b.plan.Declare, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if b.producer, err = producer.New(b.conn, producer.Config{Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.producer.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// run consumes orders until end is called or the test ends.
func (b *bench) run(h consumer.Handler) (end func()) {
	b.t.Helper()
	c, err := consumer.New(b.conn, consumer.Config{Queue: "orders", Logger: quiet, Middleware: []consumer.Middleware{b.plan.Middleware(b.producer)}}, h)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			b.t.Errorf("Run = %v", err)
		}
	})
	b.t.Cleanup(end)
	return end
}

func fails(err error) consumer.Handler {
	return func(context.Context, *consumer.Delivery) error { return err }
}

func (b *bench) publish(msg amqp.Publishing) {
	b.t.Helper()
	if err := b.producer.Republish(b.t.Context(), "", "orders", msg); err != nil {
		b.t.Fatal(err)
	}
}

// onConnection does something over a connection of the Conn.
func (b *bench) onConnection(do func(*amqp.Connection) error) {
	b.t.Helper()
	ac, err := b.conn.ConsumeConnection(b.t.Context())
	if err == nil {
		err = do(ac)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// messages returns the messages of a queue after a while.
func (b *bench) messages(queue string, after time.Duration) []amqptest.Message {
	b.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	return b.Messages(queue)
}

// parked returns the only message in the parking queue after a while.
func (b *bench) parked(after time.Duration) amqptest.Message {
	b.t.Helper()
	ms := b.messages("orders.parked", after)
	if len(ms) != 1 {
		b.t.Fatalf("%d messages are parked, want 1", len(ms))
	}
	return ms[0]
}

// fieldErrors returns the FieldErrors in err.
func fieldErrors(err error) (all []*amqperr.FieldError) {
	switch e := err.(type) {
	case *amqperr.FieldError:
		return []*amqperr.FieldError{e}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			all = append(all, fieldErrors(err)...)
		}
	}
	return all
}

// Retry processes orders with a retry plan. One order fails permanently, one fails with an error that has its own delay,
// and one succeeds after two retries. The plan parks the permanent failure; the program then lists and replays it.
//
//	go run ./examples/retry
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

var errBusy = errors.New("the warehouse is busy")

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	// A real service would use longer delays.
	plan, err := retry.New(retry.Config{
		Queue:  "retry.orders",
		Policy: retry.Schedule(500*time.Millisecond, time.Second),
		Rules:  []retry.Rule{retry.OnError(errBusy, retry.Schedule(2*time.Second))},
		Source: &topology.Queue{},
		Logger: slog.New(slog.DiscardHandler), // the program itself prints every attempt
	})
	if err != nil {
		return err
	}
	fmt.Println(plan)

	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: plan.Declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	defer p.Close(context.Background())

	done := make(chan string, 8)
	c, err := consumer.New(conn, consumer.Config{
		Queue: "retry.orders", HasDeadLetterExchange: true, Middleware: []consumer.Middleware{plan.Middleware(p)},
	}, func(ctx context.Context, d *consumer.Delivery) error {
		order := string(d.Body)
		err := work(ctx, order)
		fmt.Printf("%s, attempt %d: %v\n", order, retry.Attempt(ctx), err)
		if err == nil {
			done <- order
		}
		return err
	})
	if err != nil {
		return err
	}
	working, end := context.WithCancel(ctx)
	defer end()
	ran := make(chan error, 1)
	go func() { ran <- c.Run(working) }()

	for _, order := range []string{"good", "heals", "busy", "broken"} {
		if err := p.Publish(ctx, "", "retry.orders", amqp.Publishing{MessageId: order, Body: []byte(order)}); err != nil {
			return err
		}
	}
	for range 3 { // all orders except broken
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	end()
	if err := <-ran; err != nil {
		return err
	}

	parked, err := parking.Peek(ctx, conn, plan.ParkingQueue(), 10)
	if err != nil {
		return err
	}
	for _, m := range parked {
		fmt.Printf("parked %s after %d attempt: %s (%s)\n", m.Publishing.MessageId, m.Attempts, m.Error, m.Reason)
	}
	r, err := parking.Replay(ctx, conn, p, parking.ReplayConfig{Queue: plan.ParkingQueue(), Rate: 100})
	if err != nil {
		return err
	}
	fmt.Printf("replayed %d of %d\n", r.Replayed, r.Total)
	d, ok, err := consumer.Get(ctx, conn, "retry.orders")
	if err != nil || !ok {
		return fmt.Errorf("the replayed message is not in the queue: %w", err)
	}
	fmt.Printf("back: %s\n", d.Body)
	return d.Ack(false)
}

func work(ctx context.Context, order string) error {
	switch {
	case order == "broken":
		return amqperr.Permanent(errors.New("it has no address"))
	case order == "heals" && retry.Attempt(ctx) < 3:
		return errors.New("connection refused")
	case order == "busy" && retry.Attempt(ctx) < 2:
		return fmt.Errorf("order %s: %w", order, errBusy)
	}
	return nil
}

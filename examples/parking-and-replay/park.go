package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

var (
	errTimeout = errors.New("payment timeout")
	errAddress = amqperr.Permanent(errors.New("no address"))
)

// park runs a service that fails to process four orders, so that its retry plan parks them. Orders that were replayed
// succeed.
func park(ctx context.Context, conn *amqpkit.Conn, p *producer.Producer) error {
	plan, err := retry.New(retry.Config{
		Queue:  "parking.orders",
		Policy: retry.Schedule(200 * time.Millisecond), // two attempts
		Source: &topology.Queue{},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ac, err := conn.ConsumeConnection(ctx)
	if err != nil {
		return err
	}
	if err := plan.Declare(ctx, ac); err != nil { // a real service sets amqpkit.Config.Setup to plan.Declare
		return err
	}

	failing := map[string]error{"book": errTimeout, "lamp": errTimeout, "chair": errAddress, "table": errAddress}
	failed := make(chan string, len(failing))
	c, err := consumer.New(conn, consumer.Config{
		Queue: "parking.orders", HasDeadLetterExchange: true, Middleware: []consumer.Middleware{plan.Middleware(p)},
	}, func(ctx context.Context, d *consumer.Delivery) error {
		err := failing[d.MessageId]
		if _, failed := d.Headers["x-amqpkit-history"]; failed && retry.Attempt(ctx) == 1 { // replayed: attempts restart at 1
			fmt.Println("done:", d.MessageId)
			return nil
		}
		if errors.Is(err, errAddress) || retry.Attempt(ctx) == 2 {
			failed <- d.MessageId
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
	for _, order := range []string{"book", "lamp", "chair", "table"} {
		if err := p.Publish(ctx, "", "parking.orders", amqp.Publishing{MessageId: order, Body: []byte(order)}); err != nil {
			return err
		}
	}
	for range failing {
		select {
		case <-failed:
		case err := <-ran:
			return err
		}
	}
	end() // Run returns after the last order was parked
	if err := <-ran; err != nil {
		return err
	}
	fmt.Printf("parked %d orders in %s\n", len(failing), plan.ParkingQueue())
	return nil
}

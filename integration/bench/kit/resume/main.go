// Command resume measures amqpkit's recovery from a lost connection. For the duration -for it consumes with one worker,
// taking a millisecond per message, and reports the longest time without a delivery.
package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/bench/side"
)

func main() { side.Main(run) }

func run(ctx context.Context, t side.Task) (side.Result, error) {
	quiet := slog.New(slog.DiscardHandler) // the loss of the connection is expected
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{t.URL}, Name: t.Name, Logger: quiet})
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close(ctx)
	var gap side.Gap
	n := 0
	cfg := consumer.Config{Queue: t.QueueNames()[0], Prefetch: t.Prefetch, Logger: quiet}
	c, err := consumer.New(conn, cfg, func(context.Context, *consumer.Delivery) error {
		n++
		gap.Step()
		time.Sleep(time.Millisecond)
		return nil
	})
	if err != nil {
		return side.Result{}, err
	}
	running, cancel := context.WithTimeout(ctx, t.For)
	defer cancel()
	clock := side.Start()
	err = c.Run(running)
	result := clock.Stop(n)
	result.Gap = gap.Longest()
	return result, err
}

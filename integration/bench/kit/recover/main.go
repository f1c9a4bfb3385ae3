// Command recover measures amqpkit's recovery from a lost connection. For the duration -for it publishes messages,
// waiting for each confirm, and reports the longest time without a confirm.
package main

import (
	"context"
	"log/slog"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/bench/side"
	"github.com/amqpkit/amqpkit/producer"
)

func main() { side.Main(run) }

func run(ctx context.Context, t side.Task) (side.Result, error) {
	quiet := slog.New(slog.DiscardHandler) // the loss of the connection is expected
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{t.URL}, Name: t.Name, Logger: quiet})
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close(ctx)
	p, err := producer.New(conn, producer.Config{Logger: quiet})
	if err != nil {
		return side.Result{}, err
	}
	queue, body := t.QueueNames()[0], make([]byte, t.Size)
	timed, cancel := context.WithTimeout(ctx, t.For)
	defer cancel()
	var gap side.Gap
	n := 0
	clock := side.Start()
	for timed.Err() == nil {
		if err := p.Publish(timed, "", queue, amqp.Publishing{Body: body}); err != nil {
			if timed.Err() == nil {
				return side.Result{}, err
			}
			break
		}
		n++
		gap.Step()
	}
	gap.Step() // count an outage that continues until now
	result := clock.Stop(n)
	result.Gap = gap.Longest()
	return result, p.Close(ctx)
}

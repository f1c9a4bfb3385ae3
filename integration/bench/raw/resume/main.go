// Command resume consumes with amqp091-go alone for a while, a millisecond a message, through the loss of its
// connection, and tells the longest time without a delivery. It dials again at once, and then every 200 ms, as a
// hand-written program does.
package main

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

const pause = 200 * time.Millisecond // between two attempts to connect

func main() { side.Main(run) }

func run(ctx context.Context, t side.Task) (side.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, t.For)
	defer cancel()
	cfg := amqp.Config{Properties: amqp.NewConnectionProperties()}
	cfg.Properties.SetClientConnectionName(t.Name)
	queue := t.QueueNames()[0]
	var gap side.Gap
	n := 0
	clock := side.Start()
	for ctx.Err() == nil {
		conn, deliveries, err := subscribe(t, cfg, queue)
		if err != nil {
			time.Sleep(pause)
			continue
		}
		for d := range deliveries {
			gap.Step()
			time.Sleep(time.Millisecond)
			if d.Ack(false) != nil || ctx.Err() != nil {
				break // what else came on this connection will come again
			}
			n++
		}
		_ = conn.Close()
	}
	gap.Step() // an outage that has not ended is a gap too
	result := clock.Stop(n)
	result.Gap = gap.Longest()
	return result, nil
}

func subscribe(t side.Task, cfg amqp.Config, queue string) (*amqp.Connection, <-chan amqp.Delivery, error) {
	conn, err := amqp.DialConfig(t.URL, cfg)
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Qos(t.Prefetch, 0, false)
	}
	var deliveries <-chan amqp.Delivery
	if err == nil {
		deliveries, err = ch.Consume(queue, "bench", false, false, false, false, nil)
	}
	if err != nil {
		_ = conn.Close()
	}
	return conn, deliveries, err
}

// Command resume measures recovery from a lost connection with amqp091-go only. For the duration -for it consumes, taking
// a millisecond per message, and reports the longest time without a delivery. It redials immediately and then every
// 200 ms, like typical hand-written code.
package main

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

const redialInterval = 200 * time.Millisecond

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
			time.Sleep(redialInterval)
			continue
		}
		for d := range deliveries {
			gap.Step()
			time.Sleep(time.Millisecond)
			if d.Ack(false) != nil || ctx.Err() != nil {
				break // the broker redelivers the unacknowledged deliveries of this connection
			}
			n++
		}
		_ = conn.Close()
	}
	gap.Step() // count an outage that continues until now
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

// Command recover measures recovery from a lost connection with amqp091-go only. For the duration -for it publishes
// messages, waiting for each confirm, and reports the longest time without a confirm. With -how=loop it redials
// immediately and then every 200 ms, like typical hand-written code. With -how=library it relies on amqp.Config.Recovery
// with its defaults.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

const redialInterval = 200 * time.Millisecond

func main() { side.Main(run) }

func run(ctx context.Context, t side.Task) (side.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, t.For)
	defer cancel()
	var cfg amqp.Config
	cfg.Properties = amqp.NewConnectionProperties()
	cfg.Properties.SetClientConnectionName(t.Name)
	queue, body := t.QueueNames()[0], make([]byte, t.Size)
	switch t.How {
	case "loop":
		return loop(ctx, t, cfg, queue, body)
	case "library":
		cfg.Recovery = &amqp.Recovery{}
		return library(ctx, t, cfg, queue, body)
	default:
		return side.Result{}, fmt.Errorf("-how=%q is not loop or library", t.How)
	}
}

func loop(ctx context.Context, t side.Task, cfg amqp.Config, queue string, body []byte) (side.Result, error) {
	var gap side.Gap
	n := 0
	clock := side.Start()
	for ctx.Err() == nil {
		conn, ch, err := open(t.URL, cfg)
		if err != nil {
			time.Sleep(redialInterval)
			continue
		}
		for ctx.Err() == nil && publish(ctx, ch, n, queue, body) == nil {
			n++
			gap.Step()
		}
		_ = conn.Close()
	}
	gap.Step() // count an outage that continues until now
	result := clock.Stop(n)
	result.Gap = gap.Longest()
	return result, nil
}

func library(ctx context.Context, t side.Task, cfg amqp.Config, queue string, body []byte) (side.Result, error) {
	conn, ch, err := open(t.URL, cfg)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close()
	var gap side.Gap
	n := 0
	clock := side.Start()
	for ctx.Err() == nil {
		if publish(ctx, ch, n, queue, body) != nil {
			time.Sleep(10 * time.Millisecond) // the library reconnects in the background
			continue
		}
		n++
		gap.Step()
	}
	gap.Step()
	result := clock.Stop(n)
	result.Gap = gap.Longest()
	return result, nil
}

func open(url string, cfg amqp.Config) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.DialConfig(url, cfg)
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		_ = conn.Close()
	}
	return conn, ch, err
}

// publish waits for the confirm for up to a second: with Recovery, it may stay unresolved during the outage.
func publish(ctx context.Context, ch *amqp.Channel, n int, queue string, body []byte) error {
	c, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, MessageId: side.MessageID(n), Body: body,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	acked, err := c.WaitContext(ctx)
	if err == nil && !acked {
		err = errors.New("not confirmed")
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// onBroker manages queues on a real RabbitMQ.
type onBroker struct{ broker *rabbit.Broker }

func (b onBroker) url() string { return b.broker.URL() }

func (b onBroker) cut(ctx context.Context, connection string) error {
	n, err := b.broker.CloseConnection(ctx, connection, "bench")
	if err == nil && n == 0 {
		err = fmt.Errorf("no connection %q to close", connection)
	}
	return err
}

func (b onBroker) make(_ context.Context, queueType string, names []string) error {
	return b.each(names, func(ch *amqp.Channel, name string) error {
		q, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": queueType})
		if err == nil && q.Messages > 0 {
			_, err = ch.QueuePurge(name, false)
		}
		return err
	})
}

func (b onBroker) remove(_ context.Context, names []string) error {
	return b.each(names, func(ch *amqp.Channel, name string) error {
		_, err := ch.QueueDelete(name, false, false, false)
		return err
	})
}

func (b onBroker) await(ctx context.Context, names []string, messages int) error {
	for {
		var held atomic.Int64
		err := b.each(names, func(ch *amqp.Channel, name string) error {
			q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
			held.Add(int64(q.Messages))
			return err
		})
		if err != nil || int(held.Load()) == messages {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the queues hold %d messages, want %d: %w", held.Load(), messages, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// each calls do for every name, on several channels concurrently, because a thousand queues would take too long on one.
func (b onBroker) each(names []string, do func(*amqp.Channel, string) error) (err error) {
	conn, err := amqp.Dial(b.url())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	part := (len(names) + channels - 1) / channels
	results := make(chan error, channels)
	n := 0
	for some := range slices.Chunk(names, part) {
		n++
		go func() { results <- onOneChannel(conn, some, do) }()
	}
	for range n {
		err = errors.Join(err, <-results)
	}
	return err
}

// channels is the number of channels that each uses.
const channels = 16

func onOneChannel(conn *amqp.Connection, names []string, do func(*amqp.Channel, string) error) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := do(ch, name); err != nil {
			return err
		}
	}
	return nil
}

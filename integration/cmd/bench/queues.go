package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// onBroker makes queues on a real RabbitMQ.
type onBroker struct{ broker *rabbit.Broker }

func (b onBroker) url() string { return b.broker.URL() }

func (b onBroker) cut(ctx context.Context, connection string) error {
	n, err := b.broker.CloseConnection(ctx, connection, "bench")
	if err == nil && n == 0 {
		err = fmt.Errorf("there was no connection %q to cut", connection)
	}
	return err
}

func (b onBroker) make(_ context.Context, queueType string, names []string) error {
	return b.with(func(ch *amqp.Channel) error {
		for _, name := range names {
			q, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": queueType})
			if err == nil && q.Messages > 0 {
				_, err = ch.QueuePurge(name, false)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (b onBroker) remove(_ context.Context, names []string) error {
	return b.with(func(ch *amqp.Channel) error {
		for _, name := range names {
			if _, err := ch.QueueDelete(name, false, false, false); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b onBroker) await(ctx context.Context, names []string, messages int) error {
	return b.with(func(ch *amqp.Channel) error {
		for {
			held := 0
			for _, name := range names {
				q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
				if err != nil {
					return err
				}
				held += q.Messages
			}
			if held == messages {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the queues hold %d messages, want %d: %w", held, messages, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

// with runs do on a channel of its own.
func (b onBroker) with(do func(*amqp.Channel) error) (err error) {
	conn, err := amqp.Dial(b.url())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	return do(ch)
}

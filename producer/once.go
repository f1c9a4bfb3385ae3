package producer

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Publish publishes one message through a temporary Producer with the default Config and returns the outcome like
// [Producer.Publish]. It is for scripts and tools: each call opens and closes a channel. A program that publishes several
// messages keeps a Producer.
func Publish(ctx context.Context, conn Connection, exchange, key string, msg amqp.Publishing) error {
	p, err := New(conn, Config{})
	if err != nil {
		return err
	}
	defer func() { _ = p.close(ctx) }() // the outcome is known: nothing is in flight
	return p.Publish(ctx, exchange, key, msg)
}

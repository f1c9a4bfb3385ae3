package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

func forceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "force", Usage: "peek although RabbitMQ may drop a message"}
}

// checkPeek refuses to read and return messages of a queue where RabbitMQ may drop one, unless --force is given. It states the cost on the standard
// error if always is set, or if there is a risk. A missing queue is an error.
func (a *app) checkPeek(ctx context.Context, c *cli.Command, conn *amqpkit.Conn, queue string, always bool) error {
	ac, err := conn.ConsumeConnection(ctx)
	if err != nil {
		return err
	}
	if err := checkExists(ctx, conn, queue); err != nil {
		return err
	}
	t, err := readType(ctx, ac, queue)
	if err != nil {
		return err
	}
	cost := costOf(t, ac.Properties)
	switch {
	case cost.risky && !c.Bool("force"):
		return &codeError{exitFailure, "queue " + validate.Quote(queue) + " was not read: " + cost.text + "; add --force to peek all the same"}
	case cost.risky || always:
		a.warn("%s", cost.text)
	}
	return nil
}

// checkExists returns an error if the queue does not exist or the user may not use it.
func checkExists(ctx context.Context, conn *amqpkit.Conn, queue string) error {
	_, err := messages(ctx, conn, queue)
	return err
}

// messages returns the number of messages that a queue can deliver.
func messages(ctx context.Context, conn *amqpkit.Conn, queue string) (int, error) {
	ac, err := conn.ConsumeConnection(ctx)
	if err != nil {
		return 0, err
	}
	ch, err := wire.Channel(ctx, ac)
	if err != nil {
		return 0, err
	}
	return wire.Call(ctx, ac, func() (int, error) {
		q, err := ch.QueueDeclarePassive(queue, false, false, false, false, nil)
		if err == nil {
			err = ch.Close()
		}
		return q.Messages, err
	})
}

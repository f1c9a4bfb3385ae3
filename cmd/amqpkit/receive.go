package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit/parking"
)

const receiveHelp = `receive prints the messages that the queue holds and ends when it is empty.
With --follow it waits for more until Ctrl-C, also across lost connections.

--ack acknowledges each message after it was written, which removes it from
the queue. If the output breaks, the message stays in the queue. --peek leaves
all messages in the queue and states what that costs: RabbitMQ counts some
returned messages as failed deliveries. A stream keeps its messages and needs
neither flag, but --offset.

Examples:

  $ amqpkit receive --ack --count 1 hello
  message 1: key "hello", id "m-1"
  Hello World!

  $ amqpkit receive --peek hello
  amqpkit receive: classic queue: the messages are marked as redelivered and keep their order
  message 1: key "hello", id "m-2"
  How are you?

  $ amqpkit receive --ack --output json hello
  {"body":"How are you?","delivery_mode":"uint8:2","exchange":"","key":"hello","message_id":"m-2"}

` + linesHelp

func (a *app) receiveCommand() *cli.Command {
	return &cli.Command{
		Name: "receive", Usage: "print the messages of a queue", ArgsUsage: "QUEUE", Description: receiveHelp, Action: a.receive,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "ack", Usage: "remove each message from the queue after it was written"},
			&cli.BoolFlag{Name: "peek", Usage: "leave the messages in the queue"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "wait for more messages"},
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "end after `N` messages", HideDefault: true},
			&cli.StringFlag{Name: "dir", Usage: "write each body into a file in `DIR`", TakesFile: true},
			&cli.StringFlag{Name: "offset", Usage: "`START` in a stream: first, last, next, a number, or a time such as 2026-11-30T12:00:00Z"},
			forceFlag(),
		},
	}
}

func (a *app) receive(ctx context.Context, c *cli.Command) error {
	queue, err := argument(c, "QUEUE")
	if err != nil {
		return err
	}
	args, err := offset(c.String("offset"))
	if err != nil {
		return err
	}
	ack, peek, follow, n := c.Bool("ack"), c.Bool("peek"), c.Bool("follow"), c.Int("count")
	switch {
	case ack && peek:
		return usage("--ack and --peek exclude each other")
	case !ack && !peek && args == nil:
		return usage("choose --ack to remove the messages from the queue, --peek to leave them there, or --offset first for a stream")
	case peek && follow:
		return usage("--peek reads what the queue holds now; it cannot --follow")
	case c.IsSet("count") && n < 1:
		return usage("--count %d is not a number of messages; write 1 or more", n)
	}
	w, err := a.newMessageWriter(c)
	if err != nil {
		return err
	}
	conn, err := a.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close(conn)
	if !isTerminal(a.out) {
		defer a.progress(func() string { return count(int(w.n.Load()), "message") }).end()
	}
	if peek && args == nil {
		if err := a.checkPeek(ctx, c, conn, queue, true); err != nil {
			return err
		}
		if n == 0 {
			n = math.MaxInt
		}
		err = parking.Walk(ctx, conn, queue, n, func(m parking.Message) error { return w.write(m.Exchange, m.Key, m.Publishing, false) })
		return errors.Join(err, w.flush())
	}
	r := &receiver{app: a, conn: conn, queue: queue, args: args, follow: follow, count: n, w: w}
	return r.run(ctx)
}

// offset returns the arguments of a consumer that begins at an offset of a stream, or nil for an empty one.
func offset(s string) (amqp.Table, error) {
	if s == "" {
		return nil, nil
	}
	var v any
	switch n, err := strconv.ParseInt(s, 10, 64); {
	case s == "first", s == "last", s == "next":
		v = s
	case err == nil && n >= 0:
		v = n
	default:
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return nil, usage("--offset %q: write first, last, next, a number from 0, or a time such as 2026-11-30T12:00:00Z", s)
		}
		v = t
	}
	return amqp.Table{"x-stream-offset": v}, nil
}

func describeEmpty(queue string, left int) string {
	return fmt.Sprintf("queue %q holds %s that it does not deliver to this consumer: another consumer is the single active one, or it is a stream and needs --offset first",
		queue, count(left, "message"))
}

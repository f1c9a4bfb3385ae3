package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit/internal/amqpjson"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
)

const parkedExportHelp = `Each message is one line, a JSON object that keeps the types of AMQP. parked
import and send --ndjson read it. The messages stay in the queue. FILE appears
when it is complete and on the disk; - is the standard output.

Example:

  $ amqpkit parked export orders.parked parked.ndjson
  exported 2 messages to parked.ndjson`

func (a *app) parkedExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write messages into a file", ArgsUsage: "QUEUE FILE", Description: parkedExportHelp, Action: a.parkedExport,
		Flags: append(filterFlags(), &cli.IntFlag{Name: "limit", Usage: "export at most `N` messages", HideDefault: true}, dryRunFlag()),
	}
}

func (a *app) parkedExport(ctx context.Context, c *cli.Command) error {
	args, err := arguments(c, "QUEUE", "FILE")
	if err != nil {
		return err
	}
	selected, err := newFilter(c)
	if err != nil {
		return err
	}
	limit := c.Int("limit")
	if limit < 0 || limit == 0 && c.IsSet("limit") {
		return usage("--limit %d is not a number of messages; write 1 or more", limit)
	}
	name, dry := args[1], c.Bool("dry-run")
	w := a.out
	var file *newFile
	switch {
	case dry:
		w = io.Discard
	case name != "-":
		if file, err = createNew(name); err != nil {
			return err
		}
		defer file.discard()
		w = file
	}
	b := bufio.NewWriter(w)
	n := 0
	err = a.walk(ctx, c, args[0], selected, func(m parking.Message) error {
		if n++; limit > 0 && n > limit {
			n--
			return errEnough
		}
		return printJSON(b, amqpjson.EncodeText(m.Publishing))
	})
	if err == nil {
		err = b.Flush()
	}
	if err == nil && file != nil {
		err = file.commit()
	}
	switch {
	case err != nil:
		return err
	case dry:
		return a.counted(c, "would export", n, "to", name)
	case name == "-":
		return nil
	}
	return a.counted(c, "exported", n, "to", name)
}

// counted prints how many messages went to or came from a file or queue.
func (a *app) counted(c *cli.Command, did string, n int, preposition, name string) error {
	if wantsJSON(c) {
		return printJSON(a.out, map[string]any{"messages": n, "dry_run": c.Bool("dry-run")})
	}
	_, err := fmt.Fprintf(a.out, "%s %s %s %s\n", did, count(n, "message"), preposition, name)
	return err
}

const parkedImportHelp = `The lines are those of parked export. Each message is confirmed before the next
line is read. FILE - is the standard input.

Example:

  $ amqpkit parked import orders.parked parked.ndjson
  imported 2 messages from parked.ndjson`

func (a *app) parkedImportCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "publish messages from a file to a parking queue", ArgsUsage: "QUEUE FILE", Description: parkedImportHelp, Action: a.parkedImport,
		Flags: []cli.Flag{dryRunFlag()},
	}
}

func (a *app) parkedImport(ctx context.Context, c *cli.Command) error {
	args, err := arguments(c, "QUEUE", "FILE")
	if err != nil {
		return err
	}
	queue, name := args[0], args[1]
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	did := "imported"
	to := &counter{}
	if c.Bool("dry-run") {
		did = "would import"
	} else {
		conn, err := a.connect(ctx, c)
		if err != nil {
			return err
		}
		defer a.close(conn)
		if err := checkExists(ctx, conn, queue); err != nil {
			return err
		}
		if to.producer, err = producer.New(conn, producer.Config{}); err != nil {
			return err
		}
		defer to.producer.Close(context.WithoutCancel(ctx))
	}
	shown := a.progress(func() string { return count(int(to.n.Load()), "message") + " read" })
	n, err := parking.Import(ctx, to, queue, in)
	shown.end()
	printed := a.counted(c, did, n, "from", name)
	var skipped *parking.SkippedError
	if errors.As(err, &skipped) {
		return &codeError{exitUndelivered, a.describe(err)}
	}
	return errors.Join(err, printed)
}

// A counter is a parking.Publisher that counts. Without a producer it only checks the messages.
type counter struct {
	producer *producer.Producer
	n        atomic.Int64
}

func (c *counter) RepublishAsync(ctx context.Context, exchange, key string, m amqp.Publishing) (waiter, error) {
	c.n.Add(1)
	if c.producer == nil {
		return done{}, producer.Message{Exchange: exchange, Key: key, Publishing: m}.Validate(maxBody)
	}
	return c.producer.RepublishAsync(ctx, exchange, key, m)
}

type waiter interface{ Wait(context.Context) error }

type done struct{}

func (done) Wait(context.Context) error { return nil }

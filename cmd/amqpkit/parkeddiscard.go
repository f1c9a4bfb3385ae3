package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/internal/amqpjson"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/parking"
)

const parkedDiscardHelp = `discard removes messages for good. --export writes each into a file, and
removes it after the file is on the disk.

Example:

  $ amqpkit parked discard --reason permanent --export lost.ndjson --yes orders.parked
  discarded 1 of 2 messages, 1 stays parked`

func (a *app) parkedDiscardCommand() *cli.Command {
	return &cli.Command{
		Name: "discard", Usage: "remove messages for good", ArgsUsage: "QUEUE", Description: parkedDiscardHelp, Action: a.parkedDiscard,
		Flags: append(filterFlags(),
			&cli.IntFlag{Name: "limit", Usage: "discard at most `N` messages", HideDefault: true},
			&cli.FloatFlag{Name: "rate", Usage: "discard at most `N` messages a second", HideDefault: true},
			&cli.StringFlag{Name: "export", Usage: "write the messages into `FILE` first", TakesFile: true},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			dryRunFlag()),
	}
}

func (a *app) parkedDiscard(ctx context.Context, c *cli.Command) error {
	queue, selected, limit, err := selection(c)
	if err != nil {
		return err
	}
	config := parking.ReplayConfig{
		Queue: queue, Match: selected.match, Limit: limit, Rate: c.Float("rate"), DryRun: c.Bool("dry-run"), Logger: slog.New(slog.DiscardHandler),
	}
	switch {
	case !(config.Rate >= 0):
		return usage("--rate %v is not a rate; write messages per second", config.Rate)
	case !config.DryRun && !c.Bool("yes") && !isTerminal(a.in):
		return usage("discard cannot ask without a terminal; add --yes, or --dry-run to count the messages")
	}
	conn, err := a.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close(conn)
	if !selected.all() || limit > 0 || config.DryRun { // otherwise no message returns to the queue
		if err := a.checkPeek(ctx, c, conn, queue, false); err != nil {
			return err
		}
	}
	if !config.DryRun && !c.Bool("yes") {
		if err := a.confirmDiscard(ctx, conn, queue, selected.all() && limit == 0); err != nil {
			return err
		}
	}
	d := &discarder{messages: map[string]amqp.Publishing{}}
	if name := c.String("export"); name != "" && !config.DryRun {
		if d.file, err = createNew(name); err != nil {
			return err
		}
		defer d.file.discard()
		d.buffer = bufio.NewWriter(d.file)
	}
	config.To = d.address
	r, err := replayWithProgress(a, config, func(config parking.ReplayConfig) (parking.ReplayResult, error) {
		return parking.Replay(ctx, conn, d, config)
	})
	if d.file != nil && d.written > 0 { // also after an error: it may hold the only copy of a message
		err = errors.Join(err, d.file.commit())
	}
	return a.replayed(c, "discard", "discarded", r, err)
}

// confirmDiscard asks on the terminal.
func (a *app) confirmDiscard(ctx context.Context, conn *amqpkit.Conn, queue string, all bool) error {
	n, err := messages(ctx, conn, queue)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("the selected ones of %s", count(n, "message"))
	if all {
		what = "all " + count(n, "message")
	}
	fmt.Fprintf(a.err, "Discard %s in queue %s for good? [y/N] ", what, validate.Quote(queue))
	answer := make(chan string, 1)
	go func() { // a read from a terminal cannot be interrupted
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case s := <-answer:
		if s == "y" || s == "yes" {
			return nil
		}
		return errors.New("nothing was discarded")
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return errors.New("nothing was discarded")
	}
}

// A discarder is the parking.Publisher of a discard: it publishes nothing, so that Replay only acknowledges the messages. It writes them to its file,
// as they are in the queue, before.
type discarder struct {
	file    *newFile // may be nil
	buffer  *bufio.Writer
	dirty   bool // the buffer or the file is not on the disk
	written int

	read     int
	messages map[string]amqp.Publishing // by the number that address returns
}

// address returns the number of a message, by which RepublishAsync finds it.
func (d *discarder) address(m parking.Message) (exchange, key string) {
	d.read++
	key = fmt.Sprint(d.read)
	if d.file != nil {
		d.messages[key] = m.Publishing
	}
	return "", key
}

func (d *discarder) RepublishAsync(_ context.Context, _, key string, _ amqp.Publishing) (*discarder, error) {
	if d.file == nil {
		return d, nil
	}
	m := d.messages[key]
	delete(d.messages, key)
	d.dirty = true
	d.written++
	if err := printJSON(d.buffer, amqpjson.EncodeText(m)); err != nil {
		return d, fileError{err}
	}
	return d, nil
}

// Wait returns after the messages are on the disk.
func (d *discarder) Wait(context.Context) error {
	if !d.dirty {
		return nil
	}
	err := d.buffer.Flush()
	if err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		return fileError{err}
	}
	d.dirty = false
	return nil
}

// A fileError ends the replay: every later message would fail too.
type fileError struct{ error }

func (fileError) Closed() bool { return true }

func (e fileError) Unwrap() error { return e.error }

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit/internal/amqpjson"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/parking"
)

const parkedHelp = `A parking queue holds messages that failed: a retry plan of package retry has
moved them there, or RabbitMQ has dead-lettered them. list, show and export
leave them in the queue. replay publishes them to the queue where they failed.

Where RabbitMQ counts returned messages as failed deliveries and may drop one,
the commands refuse without --force, as receive --peek does.`

func (a *app) parkedCommand() *cli.Command {
	return &cli.Command{
		Name: "parked", Usage: "inspect, replay, export, import and discard parked messages", Description: parkedHelp,
		Commands: []*cli.Command{
			a.parkedListCommand(), a.parkedShowCommand(), a.parkedReplayCommand(), a.parkedExportCommand(), a.parkedImportCommand(), a.parkedDiscardCommand(),
		},
	}
}

// filterFlags are the flags that select parked messages, and --force.
func filterFlags() []cli.Flag {
	const category = "Selection"
	return []cli.Flag{
		&cli.StringFlag{Name: "reason", Usage: "only messages parked for this `REASON`, such as attempts or expired", Category: category},
		&cli.StringFlag{Name: "origin", Usage: "only messages that failed in the queue `NAME`", Category: category},
		&cli.StringFlag{Name: "id", Usage: "only messages with the message `ID`", Category: category},
		&cli.StringFlag{Name: "error", Usage: "only messages whose last error contains `TEXT`", Category: category},
		&cli.DurationFlag{Name: "older", Usage: "only messages whose last failure is at least as long ago as `1h`", Category: category, HideDefault: true},
		&cli.StringSliceFlag{Name: "header", Usage: "only messages with the header `NAME=VALUE`; may be repeated", Category: category},
		forceFlag(),
	}
}

// A filter selects parked messages.
type filter struct {
	reason, origin, id, text string
	older                    time.Duration
	headers                  map[string]string
}

func newFilter(c *cli.Command) (f filter, err error) {
	f = filter{reason: c.String("reason"), origin: c.String("origin"), id: c.String("id"), text: c.String("error"), older: c.Duration("older")}
	for _, arg := range c.StringSlice("header") {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return f, usage("--header %s: write name=value", validate.Quote(arg))
		}
		if f.headers == nil {
			f.headers = map[string]string{}
		}
		f.headers[name] = value
	}
	return f, nil
}

// all reports whether the filter selects every message.
func (f filter) all() bool {
	return f.reason == "" && f.origin == "" && f.id == "" && f.text == "" && f.older == 0 && f.headers == nil
}

func (f filter) match(m parking.Message) bool {
	for name, value := range f.headers {
		if v, ok := m.Publishing.Headers[name]; !ok || fmt.Sprint(v) != value {
			return false
		}
	}
	return (f.reason == "" || m.Reason == f.reason) && (f.origin == "" || m.Queue == f.origin) && (f.id == "" || m.Publishing.MessageId == f.id) &&
		(f.text == "" || strings.Contains(m.Error, f.text)) &&
		(f.older == 0 || !m.LastFailure.IsZero() && time.Since(m.LastFailure) >= f.older)
}

// walk calls f for the selected messages of a queue, which stay there. It stops if f returns errEnough.
func (a *app) walk(ctx context.Context, c *cli.Command, queue string, selected filter, f func(parking.Message) error) error {
	conn, err := a.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close(conn)
	if err := a.checkPeek(ctx, c, conn, queue, false); err != nil {
		return err
	}
	var read, found atomic.Int64
	shown := a.progress(func() string {
		return fmt.Sprintf("%s read, %s selected", count(int(read.Load()), "message"), group(int(found.Load())))
	})
	defer shown.end()
	err = parking.Walk(ctx, conn, queue, math.MaxInt, func(m parking.Message) error {
		read.Add(1)
		if !selected.match(m) {
			return nil
		}
		found.Add(1)
		return f(m)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough stops a walk.
var errEnough = errors.New("enough")

const parkedListHelp = `Examples:

  $ amqpkit parked list orders.parked
  MESSAGE  ORIGIN  ATTEMPTS  LAST FAILURE          REASON     ERROR
  m-1      orders  5         2026-11-30 09:15:00Z  attempts   payment timeout
  m-2      orders  1         2026-11-30 09:20:00Z  permanent  no address

  $ amqpkit parked list --reason permanent --output json orders.parked
  {"attempts":1,"error":"no address","exchange":"shop","key":"order.paid","last_failure":"2026-11-30T09:20:00Z","message_id":"m-2","queue":"orders","reason":"permanent"}`

func (a *app) parkedListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the messages", ArgsUsage: "QUEUE", Description: parkedListHelp, Action: a.parkedList,
		Flags: append(filterFlags(), &cli.IntFlag{Name: "limit", Usage: "list at most `N` messages", Value: 100}),
	}
}

func (a *app) parkedList(ctx context.Context, c *cli.Command) error {
	queue, selected, limit, err := selection(c)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	n, more := 0, false
	err = a.walk(ctx, c, queue, selected, func(m parking.Message) error {
		if n == limit {
			more = true
			return errEnough
		}
		n++
		if wantsJSON(c) {
			return printJSON(a.out, record(m))
		}
		if n == 1 {
			fmt.Fprintln(w, "MESSAGE\tORIGIN\tATTEMPTS\tLAST FAILURE\tREASON\tERROR")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", cell(m.Publishing.MessageId), cell(m.Queue), attempts(m), when(m.LastFailure), cell(m.Reason), cell(m.Error))
		return nil
	})
	_ = w.Flush()
	switch {
	case err != nil:
		return err
	case more:
		a.warn("there are more messages; --limit N lists N of them")
	case n == 0:
		a.warn("no message is selected")
	}
	return nil
}

// selection returns the queue, the filter and the limit of a command. The limit is zero if the command does not have one.
func selection(c *cli.Command) (queue string, f filter, limit int, err error) {
	if queue, err = argument(c, "QUEUE"); err != nil {
		return
	}
	if f, err = newFilter(c); err != nil {
		return
	}
	if limit = c.Int("limit"); limit < 0 || limit == 0 && c.IsSet("limit") {
		err = usage("--limit %d is not a number of messages; write 1 or more", limit)
	}
	return
}

const maxCell = 60 // characters in a column

// cell returns a text for a table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	s = strings.ReplaceAll(validate.Printable(s), "\t", " ")
	if r := []rune(s); len(r) > maxCell {
		return string(r[:maxCell-1]) + "…"
	}
	return s
}

func attempts(m parking.Message) string {
	if m.Attempts == 0 {
		return "-"
	}
	return fmt.Sprint(m.Attempts)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// record returns what is known about a parked message, for JSON.
func record(m parking.Message) map[string]any {
	r := map[string]any{}
	for name, v := range map[string]string{
		"message_id": m.Publishing.MessageId, "queue": m.Queue, "exchange": m.Exchange, "key": m.Key, "reason": m.Reason, "error": m.Error, "error_type": m.ErrorType,
	} {
		if v != "" {
			r[name] = strings.ToValidUTF8(v, "\ufffd")
		}
	}
	if m.Attempts > 0 {
		r["attempts"] = m.Attempts
	}
	for name, t := range map[string]time.Time{"first_failure": m.FirstFailure, "last_failure": m.LastFailure} {
		if !t.IsZero() {
			r[name] = t.UTC()
		}
	}
	return r
}

const parkedShowHelp = `Example:

  $ amqpkit parked show orders.parked m-1
  message id      m-1
  failed in       orders
  published to    exchange shop, key order.paid
  reason          attempts
  attempts        5
  first failure   2026-11-30 09:00:00Z
  last failure    2026-11-30 09:15:00Z
  error           payment timeout
  content type    application/json
  header tenant   acme
  body            10 bytes
  {"id":"7"}`

func (a *app) parkedShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show a message with its history, headers and body", ArgsUsage: "QUEUE ID", Description: parkedShowHelp, Action: a.parkedShow,
		Flags: []cli.Flag{forceFlag()},
	}
}

func (a *app) parkedShow(ctx context.Context, c *cli.Command) error {
	args, err := arguments(c, "QUEUE", "ID")
	if err != nil {
		return err
	}
	n := 0
	err = a.walk(ctx, c, args[0], filter{id: args[1]}, func(m parking.Message) error {
		if n++; wantsJSON(c) {
			r := record(m)
			r["history"] = m.History
			r["message"] = amqpjson.EncodeText(m.Publishing)
			return printJSON(a.out, r)
		}
		if n > 1 {
			fmt.Fprintln(a.out)
		}
		return showMessage(a.out, m)
	})
	if err == nil && n == 0 {
		return fmt.Errorf("queue %s has no message with the id %s; amqpkit parked list shows the ids", validate.Quote(args[0]), validate.Quote(args[1]))
	}
	return err
}

// showMessage writes all parts of a message.
func showMessage(out io.Writer, m parking.Message) error {
	w := tabwriter.NewWriter(out, 16, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, validate.Printable(value))
		}
	}
	p := m.Publishing
	line("message id", p.MessageId)
	line("failed in", m.Queue)
	switch {
	case m.Exchange != "":
		line("published to", "exchange "+m.Exchange+", key "+m.Key)
	case m.Key != "":
		line("published to", "queue "+m.Key)
	}
	line("reason", m.Reason)
	line("attempts", attempts(m))
	line("first failure", when(m.FirstFailure))
	line("last failure", when(m.LastFailure))
	line("error", m.Error)
	line("error type", m.ErrorType)
	line("type", p.Type)
	line("content type", p.ContentType)
	line("encoding", p.ContentEncoding)
	line("correlation id", p.CorrelationId)
	line("reply to", p.ReplyTo)
	line("app id", p.AppId)
	headers := amqpjson.Encode(amqp.Publishing{Headers: p.Headers})["headers"]
	table, _ := headers.(map[string]any)
	var names []string
	for name := range table {
		if !history.IsOwn(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		text, ok := table[name].(string)
		if !ok {
			text = jsonText(table[name])
		}
		line("header "+validate.Printable(name), text)
	}
	for _, entry := range m.History {
		line("history", entry)
	}
	line("body", count(len(p.Body), "byte"))
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, printable(p.Body))
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/producer"
)

const sendHelp = `Each message is persistent and confirmed: send reports the ones that no queue
has received, and exits with 4. Messages keep their order. Ctrl-C stops
reading and waits up to ten seconds for the confirms of sent messages.

Examples:

  $ amqpkit send --queue hello 'Hello World!'
  1 message confirmed

  $ amqpkit send --exchange orders --key order.paid --header tenant=acme \
      --header attempt:=2 --content-type application/json '{"id":7}'
  1 message confirmed

  $ amqpkit send --queue hello --lines < names.txt
  3 messages confirmed

  $ amqpkit send --queue helo 'Hello World!'
  message 1 (text 1): unroutable: no queue is bound to the default exchange for key "helo"
  0 messages confirmed, 1 unroutable

` + linesHelp + `

--ndjson sends such lines from the standard input. receive --output json and
parked export write them:

  $ amqpkit receive --ack --output json hello > hello.ndjson
  $ amqpkit send --ndjson --queue hello.copy < hello.ndjson
  4 messages confirmed`

func (a *app) sendCommand() *cli.Command {
	const properties = "Properties"
	return &cli.Command{
		Name: "send", Usage: "publish messages and report the outcome of each", ArgsUsage: "[TEXT...]", Description: sendHelp, Action: a.send,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "queue", Aliases: []string{"q"}, Usage: "send to the queue `NAME`, through the default exchange"},
			&cli.StringFlag{Name: "exchange", Aliases: []string{"e"}, Usage: "send to the exchange `NAME`"},
			&cli.StringFlag{Name: "key", Aliases: []string{"k"}, Usage: "routing `KEY`"},
			&cli.BoolFlag{Name: "lines", Usage: "send each line of the standard input; the argument - does the same"},
			&cli.BoolFlag{Name: "ndjson", Usage: "send each line of the standard input, a JSON object with properties and body"},
			&cli.StringSliceFlag{Name: "file", Aliases: []string{"f"}, Usage: "send the content of `FILE`; may be repeated", TakesFile: true},
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "send the texts or files `N` times", Value: 1},
			&cli.FloatFlag{Name: "rate", Usage: "send at most `N` messages a second", HideDefault: true},
			&cli.StringSliceFlag{Name: "header", Usage: "header `NAME=TEXT`, or NAME:=JSON for another type; may be repeated", Category: properties},
			&cli.StringFlag{Name: "content-type", Usage: "`TYPE` of the body, such as application/json", Category: properties},
			&cli.StringFlag{Name: "content-encoding", Usage: "`ENCODING` of the body, such as gzip", Category: properties},
			&cli.StringFlag{Name: "correlation-id", Usage: "`ID` of the request", Category: properties},
			&cli.StringFlag{Name: "reply-to", Usage: "`QUEUE` for replies", Category: properties},
			&cli.DurationFlag{Name: "expiration", Usage: "time to live, such as `30s`", Category: properties, HideDefault: true},
			&cli.StringFlag{Name: "message-id", Usage: "message `ID`; a random one by default", Category: properties},
			&cli.IntFlag{Name: "priority", Usage: "priority from 0 to 255", Category: properties, HideDefault: true},
			&cli.StringFlag{Name: "type", Usage: "`NAME` of the kind of message", Category: properties},
			&cli.StringFlag{Name: "app-id", Usage: "`ID` of the application", Category: properties},
			&cli.BoolFlag{Name: "transient", Usage: "do not store the message on disk", Category: properties},
		},
	}
}

// A tally counts messages by outcome.
type tally struct {
	Confirmed  int `json:"confirmed"`
	Unroutable int `json:"unroutable"`
	Nacked     int `json:"nacked"`
	Unknown    int `json:"unknown"`
	Unsent     int `json:"unsent"`
}

func (t tally) String() string {
	s := count(t.Confirmed, "message") + " confirmed"
	for _, other := range []struct {
		n    int
		what string
	}{{t.Unroutable, "unroutable"}, {t.Nacked, "refused"}, {t.Unknown, "of unknown outcome"}, {t.Unsent, "not sent"}} {
		if other.n > 0 {
			s += ", " + group(other.n) + " " + other.what
		}
	}
	return s
}

// add counts the outcome of a message and returns its name. ok is true if the message was delivered.
func (t *tally) add(err error) (outcome string, ok bool) {
	var returned *producer.ReturnedError
	switch {
	case err == nil:
		t.Confirmed++
		return "confirmed", true
	case errors.As(err, &returned):
		t.Unroutable++
		return "unroutable", false
	case errors.Is(err, producer.ErrNacked):
		t.Nacked++
		return "nacked", false
	case errors.Is(err, producer.ErrNotPublished):
		t.Unsent++
		return "unsent", false
	}
	t.Unknown++
	return "unknown", false
}

func (t tally) delivered() bool { return t == tally{Confirmed: t.Confirmed} }

func (a *app) send(ctx context.Context, c *cli.Command) error {
	inputs, err := a.inputs(c)
	if err != nil {
		return err
	}
	rate := c.Float("rate")
	if !(rate >= 0) {
		return usage("--rate %v is not a rate; write messages per second", rate)
	}
	conn, err := a.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close(conn)
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	s := &sender{app: a, producer: p, json: wantsJSON(c), rate: rate}
	err = s.run(ctx, inputs)
	if s.json {
		_ = printJSON(a.out, s.tally)
	} else {
		fmt.Fprintln(a.out, s.tally)
	}
	switch {
	case interrupted(ctx):
		a.warn("interrupted")
		return reported(exitInterrupted)
	case err != nil:
		return err
	case !s.tally.delivered():
		return reported(exitUndelivered)
	}
	return nil
}

// inputs returns the messages that the arguments describe.
func (a *app) inputs(c *cli.Command) (iter.Seq2[input, error], error) {
	texts, files := c.Args().Slice(), c.StringSlice("file")
	fromLines, fromJSON := c.Bool("lines"), c.Bool("ndjson")
	if len(texts) == 1 && texts[0] == "-" {
		texts, fromLines = nil, true
	}
	sources := 0
	for _, used := range []bool{len(texts) > 0, len(files) > 0, fromLines, fromJSON} {
		if used {
			sources++
		}
	}
	if sources != 1 {
		return nil, usage("give a TEXT, --file, --lines or --ndjson, and only one of them")
	}
	if fromLines || fromJSON {
		if c.IsSet("count") {
			return nil, usage("--count repeats texts and files, not the standard input")
		}
	}
	to := producer.Message{Exchange: c.String("exchange"), Key: c.String("key")}
	addressed := c.IsSet("queue") || c.IsSet("exchange") || c.IsSet("key")
	switch queue := c.String("queue"); {
	case queue != "" && (c.IsSet("exchange") || c.IsSet("key")):
		return nil, usage("--queue excludes --exchange and --key: it is the key of the default exchange")
	case queue != "":
		to.Key = queue
	case fromJSON && !addressed:
		return jsonInputs(nil, a.in), nil
	case to.Exchange == "" && to.Key == "":
		return nil, usage("name the target: --queue QUEUE, or --exchange EXCHANGE --key KEY")
	}
	if fromJSON {
		for _, name := range propertyFlags {
			if c.IsSet(name) {
				return nil, usage("--ndjson takes the properties from each line; leave out --%s", name)
			}
		}
		return jsonInputs(&to, a.in), nil
	}
	times := c.Int("count")
	if times < 1 {
		return nil, usage("--count %d is not a number of messages; write 1 or more", times)
	}
	var err error
	if to.Publishing, err = properties(c); err != nil {
		return nil, err
	}
	switch {
	case fromLines:
		return lineInputs(to, a.in), nil
	case len(files) > 0:
		return fileInputs(to, files, times), nil
	}
	return textInputs(to, texts, times), nil
}

var propertyFlags = []string{
	"header", "content-type", "content-encoding", "correlation-id", "reply-to", "expiration", "message-id", "priority", "type", "app-id", "transient",
}

// properties returns a message with the properties of the flags.
func properties(c *cli.Command) (m amqp.Publishing, err error) {
	m = amqp.Publishing{
		ContentType: c.String("content-type"), ContentEncoding: c.String("content-encoding"), CorrelationId: c.String("correlation-id"),
		ReplyTo: c.String("reply-to"), MessageId: c.String("message-id"), Type: c.String("type"), AppId: c.String("app-id"),
		DeliveryMode: amqp.Persistent,
	}
	if c.Bool("transient") {
		m.DeliveryMode = amqp.Transient
	}
	if m.Headers, err = parseHeaders(c.StringSlice("header")); err != nil {
		return m, err
	}
	priority := c.Int("priority")
	if priority < 0 || priority > 255 {
		return m, usage("--priority %d is not from 0 to 255", priority)
	}
	m.Priority = uint8(priority)
	if c.IsSet("expiration") {
		d := c.Duration("expiration")
		if d < 0 || d%time.Millisecond != 0 {
			return m, usage("--expiration %v is not a number of whole milliseconds", d)
		}
		m.Expiration = strconv.FormatInt(d.Milliseconds(), 10)
	}
	return m, nil
}

// A sender publishes messages and waits for their outcomes in a second goroutine, in the same order. At most 1024 messages are in memory.
type sender struct {
	*app
	producer *producer.Producer
	json     bool
	rate     float64

	mu    sync.Mutex
	tally tally
}

// A flight is a message without an outcome.
type flight struct {
	n       int
	in      input
	receipt *producer.Receipt
	err     error // the message was not accepted
}

// grace is the time that messages in flight get for their confirms after Ctrl-C.
const grace = 10 * time.Second

// run returns an error that stopped it early: an input that cannot be read, or an outcome that every later message would have too.
func (s *sender) run(ctx context.Context, inputs iter.Seq2[input, error]) error {
	outcomes, cancel := outlasting(ctx, grace)
	defer cancel()
	reading, stop := context.WithCancel(ctx)
	defer stop()

	started := time.Now()
	shown := s.progress(func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Sprintf("%v, %s/s", s.tally, group(int(float64(s.tally.Confirmed)/time.Since(started).Seconds())))
	})
	defer shown.end()

	flights := make(chan flight, 1024)
	collected := make(chan error, 1)
	go func() {
		var first error
		for f := range flights {
			if err := s.collect(outcomes, shown, f); err != nil && first == nil {
				first = err
				stop()
			}
		}
		collected <- first
	}()
	err := s.publish(reading, outcomes, inputs, flights)
	close(flights)
	err = errors.Join(<-collected, err)
	_ = s.producer.Close(outcomes) // every message has its outcome
	return err
}

// publish reads messages and publishes them until the end of ctx.
func (s *sender) publish(ctx, outcomes context.Context, inputs iter.Seq2[input, error], flights chan<- flight) error {
	results := read(ctx, inputs)
	next := time.Now()
	for n := 1; ; n++ {
		var in result
		var ok bool
		select {
		case in, ok = <-results:
		case <-ctx.Done():
			return nil
		}
		if !ok || in.err != nil {
			return in.err
		}
		if s.rate > 0 {
			select {
			case <-time.After(time.Until(next)):
			case <-ctx.Done():
				return nil
			}
			next = time.Now().Add(time.Duration(float64(time.Second) / s.rate))
		}
		publish := s.producer.PublishAsync
		if in.received {
			publish = s.producer.RepublishAsync
		}
		f := flight{n: n, in: in.input}
		f.receipt, f.err = publish(outcomes, in.Exchange, in.Key, in.Publishing)
		f.in.Publishing = amqp.Publishing{}
		flights <- f
	}
}

// collect waits for the outcome of a message and reports a failure. It returns an error if every later message would fail in the same way.
func (s *sender) collect(ctx context.Context, shown *progress, f flight) error {
	err := f.err
	if err == nil {
		err = f.receipt.Wait(ctx)
	}
	s.mu.Lock()
	outcome, ok := s.tally.add(err)
	s.mu.Unlock()
	if ok {
		return nil
	}
	final := outcome == "unsent" && !isField(err)
	switch text := outcomeText(err); {
	case s.json:
		_ = printJSON(s.out, map[string]any{
			"message": f.n, "from": f.in.at, "exchange": f.in.Exchange, "key": f.in.Key, "outcome": outcome, "error": text,
		})
	case !final:
		shown.clear()
		fmt.Fprintf(s.err, "message %d (%s): %s: %s\n", f.n, f.in.at, outcome, text)
	}
	if final {
		return fmt.Errorf("message %d (%s) was not sent: %w", f.n, f.in.at, validate.Unprefixed(err))
	}
	return nil
}

// outcomeText returns the text of an outcome without the words that its name repeats.
func outcomeText(err error) string {
	text := validate.Unprefixed(err).Error()
	var returned *producer.ReturnedError
	if errors.As(err, &returned) {
		if _, reason, ok := strings.Cut(text, returned.Text+": "); ok {
			return reason
		}
	}
	return text
}

// outlasting returns a ctx that ends d after the given one.
func outlasting(ctx context.Context, d time.Duration) (context.Context, func()) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(d, func() { cancel(context.Cause(ctx)) })
	})
	return late, func() {
		stop()
		cancel(nil)
	}
}

package history

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// copyOf returns the copy of a delivery from the queue q that failed times times, for the parking queue.
func copyOf(d *amqp.Delivery, err string, times int) *Copy {
	r := Read(d, "q")
	for range times {
		r.Add(Cut(err, MaxErrorText), "", time.Now())
	}
	own := r.Headers()
	own[HeaderQueue], own[HeaderReason] = "q", ReasonAttempts
	return NewCopy(Publishing(d), own)
}

// fits reports whether consumers can read the message with the headers that RabbitMQ adds.
func fits(o *Copy) bool {
	p := o.Publishing()
	_, problem := validate.Received(p.Headers, maxHeader)
	return problem == nil && o.size() <= maxHeader-addedBytes && len(o.msg.Headers) <= maxEntries-addedEntries
}

func numbered(n int) amqp.Table {
	many := amqp.Table{}
	for i := range n {
		many[fmt.Sprint(i)] = int64(i)
	}
	return many
}

func TestACopyCarriesEverythingThatFitsAFrame(t *testing.T) {
	const most = maxHeader - addedBytes
	for name, c := range map[string]struct {
		headers amqp.Table
		err     string
		drops   []string
	}{
		"small":              {amqp.Table{"a": "b"}, "boom", nil},
		"a long error":       {amqp.Table{"a": "b"}, strings.Repeat("é", 1<<20), nil},
		"99,900 bytes":       {amqp.Table{"a": strings.Repeat("x", 99_900)}, strings.Repeat("y", 1<<20), nil},
		"nearly full":        {amqp.Table{"a": strings.Repeat("x", most-1000)}, strings.Repeat("y", 1<<20), nil},
		"full":               {amqp.Table{"a": strings.Repeat("x", most), "b": "c"}, "boom", []string{"a"}},
		"one of two":         {amqp.Table{"a": strings.Repeat("x", 60_000), "b": strings.Repeat("x", 70_000), "c": "d"}, "boom", []string{"a"}},
		"the smallest":       {amqp.Table{"a": strings.Repeat("x", 118_000), "b": strings.Repeat("x", 9_000), "c": strings.Repeat("x", 6_000)}, "boom", []string{"c"}},
		"latin-1, deep":      {amqp.Table{"a\n": "x", "m\xfcller": "c", "deep": deep(31)}, "boom", nil},
		"a huge CC":          {amqp.Table{"CC": []any{strings.Repeat("x", 130_000)}, "b": "c"}, "boom", []string{"CC"}},
		"1,024":              {numbered(1024), "boom", nil},
		"8,000":              {numbered(8000), "boom", nil},
		"an odd filter":      {amqp.Table{"x-stream-filter-value": int64(1), "b": "c"}, "boom", nil},
		"not UTF-8":          {amqp.Table{"a": "\xff"}, "boom\xff", nil},
		"of another package": {amqp.Table{"x-amqpkit-other": "a"}, "boom", nil},
		"BCC":                {amqp.Table{"BCC": []any{"audit"}}, "boom", []string{"BCC"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := copyOf(&amqp.Delivery{Headers: c.headers}, c.err, 20)
			h := o.Publishing().Headers
			if !fits(o) || h[HeaderAttempts] != int64(20) || h[HeaderReason] != ReasonAttempts || h[HeaderQueue] != "q" {
				t.Errorf("%d bytes, %d headers, the record is %v", o.size(), len(h), o.own)
			}
			if text, _ := h[HeaderError].(string); text == "" || len(text) > MaxErrorText || !utf8.ValidString(text) {
				t.Errorf("the error has %d bytes", len(text))
			}
			dropped, _ := h[HeaderDropped].([]any)
			for k, v := range c.headers {
				switch gone := slices.Contains(c.drops, k); {
				case gone && (h[k] != nil || !slices.Contains(o.dropped, any(k))):
					t.Errorf("%q is not dropped, or not logged: %q", k, o.dropped)
				case !gone && !reflect.DeepEqual(h[k], v):
					t.Errorf("%q is missing", k)
				}
			}
			if len(dropped) != len(c.drops) || len(o.dropped) != len(c.drops) {
				t.Errorf("dropped %q, want %q", dropped, c.drops)
			}
		})
	}
}

// RabbitMQ adds headers, and amqp091-go reads 8,192.
func TestACopyHasNoMoreHeadersThanConsumersRead(t *testing.T) {
	d := &amqp.Delivery{Headers: numbered(8192)}
	o := copyOf(d, "boom", 1)
	h := o.Publishing().Headers
	dropped, _ := h[HeaderDropped].([]any)
	if !fits(o) || len(o.msg.Headers) != maxEntries-addedEntries || len(dropped) != maxNamed+1 || dropped[maxNamed] != "and more" || len(o.dropped) != addedEntries {
		t.Errorf("%d headers, dropped %q of %d", len(h), dropped, len(o.dropped))
	}
}

// A move keeps the names of what earlier moves have dropped.
func TestDroppedNamesAreKept(t *testing.T) {
	headers := amqp.Table{"large": strings.Repeat("x", 130_000), "kept": "k"}
	for round, want := range []string{"[large]", "[large]", "[large reply-to]", "[large reply-to]"} {
		d := &amqp.Delivery{Headers: headers, ReplyTo: "amq.rabbitmq.reply-to", DeliveryMode: 7, Priority: 200}
		if round != 2 {
			d.ReplyTo = "a\nb"
		}
		o := copyOf(d, "boom", 1)
		if round == 2 && !o.Concede(&amqperr.FieldError{Field: "ReplyTo", Problem: "direct"}) {
			t.Error("the reply-to is not dropped")
		}
		p := o.Publishing()
		if got := fmt.Sprint(p.Headers[HeaderDropped]); got != want || p.DeliveryMode != 7 || p.Priority != 200 || (p.ReplyTo == "") != (round == 2) {
			t.Errorf("round %d: %+v, dropped %s, want %s", round, p, got, want)
		}
		headers = p.Headers
	}
}

// Frames of the connection may be smaller than the default.
func TestACopyFitsTheFrameOfTheConnection(t *testing.T) {
	headers := amqp.Table{"large": strings.Repeat("x", 9000), "medium": strings.Repeat("x", 2000), "small": "s"}
	o := copyOf(&amqp.Delivery{Headers: headers}, strings.Repeat("y", 1<<20), 20)
	const frame = 8192
	err := &validate.FrameError{FieldError: &amqperr.FieldError{Field: `Headers["small"]`}, Over: o.size() - frame}
	if !o.Concede(fmt.Errorf("refused: %w", err)) || o.size() > frame-addedBytes || fmt.Sprint(o.own[HeaderDropped]) != "[large]" {
		t.Errorf("%d bytes, dropped %q", o.size(), o.dropped)
	}
	if entries, _ := o.own[HeaderHistory].([]any); len(entries) > 0 || len(Text(o.own, HeaderError)) > MaxEntryText {
		t.Errorf("%d entries of the history and %d bytes of the error are left, want both shortened", len(entries), len(Text(o.own, HeaderError)))
	}
	if o.Concede(&validate.FrameError{FieldError: &amqperr.FieldError{Field: "Headers"}, Over: frame}) || o.Concede(&amqperr.FieldError{Field: "Body"}) || o.Concede(errors.New("full")) {
		t.Error("conceded a refusal of the message itself")
	}
}

func TestAForgedRecordIsShortened(t *testing.T) {
	long := strings.Repeat("x", 90_000)
	d := &amqp.Delivery{Headers: amqp.Table{
		HeaderQueue: "q", HeaderAttempts: int64(1), HeaderHistory: []any{long, int64(7), long}, HeaderKey: long, HeaderExchange: long, HeaderExpiration: long,
		HeaderUserID: long, HeaderError: long, HeaderErrorType: long, HeaderPark: long, HeaderDropped: []any{long, long}, "kept": "k",
	}}
	o := copyOf(d, "boom", 0)
	if h := o.Publishing().Headers; !fits(o) || h["kept"] != "k" || len(fmt.Sprint(h)) > 10_000 {
		t.Errorf("%d bytes, kept: %v", len(fmt.Sprint(h)), h["kept"])
	}
}

func deep(n int) any {
	if n == 0 {
		return "end"
	}
	return amqp.Table{"t": deep(n - 1)}
}

// FuzzRead checks that a record can be read from any headers, and that the copy can be sent.
func FuzzRead(f *testing.F) {
	f.Add("q", int64(3), "2026-01-01T00:00:00.000Z", "text", "k", "v")
	f.Fuzz(func(t *testing.T, queue string, n int64, at, text, key, value string) {
		d := &amqp.Delivery{Headers: amqp.Table{
			HeaderQueue: queue, HeaderAttempts: n, HeaderFirstFailure: at, HeaderDue: at, HeaderHistory: []any{text, n}, HeaderCC: text, key: value,
		}}
		r := Read(d, "q")
		if r.Attempts < 0 {
			t.Fatalf("%d attempts", r.Attempts)
		}
		before := r.Attempts
		r.Add(text, "", time.Now())
		if r.Attempts != before+1 {
			t.Fatalf("%d attempts after %d", r.Attempts, before)
		}
		if o := copyOf(d, text, 1); !fits(o) {
			t.Fatalf("it does not fit: %+v", o.Publishing())
		}
	})
}

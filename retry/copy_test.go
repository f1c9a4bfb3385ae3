package retry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
)

func TestHeadersAlwaysFitAFrame(t *testing.T) {
	many := amqp.Table{}
	for i := range 1020 {
		many[fmt.Sprint(i)] = int64(i)
	}
	for name, c := range map[string]struct {
		headers amqp.Table
		err     string
		keeps   []string
		drops   []string
	}{
		"small":         {amqp.Table{"a": "b"}, "boom", []string{"a"}, nil},
		"a long error":  {amqp.Table{"a": "b"}, strings.Repeat("é", 1<<20), []string{"a"}, nil},
		"nearly full":   {amqp.Table{"a": strings.Repeat("x", 95_000)}, strings.Repeat("y", 1<<20), []string{"a"}, nil},
		"full":          {amqp.Table{"a": strings.Repeat("x", 120_000), "b": "c"}, "boom", []string{"b"}, []string{"a"}},
		"two":           {amqp.Table{"a": strings.Repeat("x", 60_000), "b": strings.Repeat("x", 60_001), "c": "d"}, "boom", []string{"a", "c"}, []string{"b"}},
		"unsendable":    {amqp.Table{"a\n": "x", "b": "c", "deep": deep(20)}, "boom", []string{"b"}, []string{"a\n", "deep"}},
		"a huge CC":     {amqp.Table{"CC": []any{strings.Repeat("x", 110_000)}, "b": "c"}, "boom", []string{"b"}, []string{"CC"}},
		"many":          {many, "boom", nil, nil},
		"no filter":     {amqp.Table{"x-stream-filter-value": int64(1), "b": "c"}, "boom", []string{"b"}, []string{"x-stream-filter-value"}},
		"invalid UTF-8": {amqp.Table{"a": "\xff"}, "boom\xff", []string{"a"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New("q", Schedule(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			d := &consumer.Delivery{Delivery: amqp.Delivery{Headers: c.headers}, Queue: "q"}
			s := read(d)
			for range 20 {
				s.fails(errors.New(c.err), time.Now())
			}
			h := p.publishing(d, hop{story: s, why: WhyAttempts}, wire.MaxHeaders).Headers
			if p := wire.Table(h); p != nil {
				t.Fatalf("refused: %+v", p)
			}
			if h[HeaderAttempts] != int64(20) || h[HeaderWhy] != WhyAttempts || h[HeaderQueue] != "q" {
				t.Error("the story is incomplete")
			}
			if text, _ := h[HeaderError].(string); text == "" || len(text) > maxErrorText || !utf8.ValidString(text) {
				t.Errorf("the error has %d bytes", len(text))
			}
			if history, _ := h[HeaderHistory].([]any); len(history) > maxHistory {
				t.Errorf("%d entries of history", len(history))
			}
			for _, k := range c.keeps {
				if h[k] == nil {
					t.Errorf("%s is missing", k)
				}
			}
			dropped, _ := h[HeaderDropped].([]any)
			for _, k := range c.drops {
				if h[k] != nil || !strings.Contains(fmt.Sprint(dropped), k) {
					t.Errorf("%q is not dropped: %q", k, dropped)
				}
			}
			if c.keeps != nil && len(dropped) != len(c.drops) {
				t.Errorf("dropped %q, want %q", dropped, c.drops)
			}
		})
	}
}

// Of very many headers only those make room that have to.
func TestAsFewHeadersAsPossibleAreLeftOut(t *testing.T) {
	d := &consumer.Delivery{Delivery: amqp.Delivery{Headers: amqp.Table{}}, Queue: "q"}
	for i := range 1020 {
		d.Headers[fmt.Sprint(i)] = int64(i)
	}
	p := planFor(t)
	h := p.publishing(d, hop{story: read(d)}, wire.MaxHeaders).Headers
	kept := 0
	for k := range d.Headers {
		if h[k] != nil {
			kept++
		}
	}
	dropped, _ := h[HeaderDropped].([]any)
	if kept < 980 || len(dropped) != maxNamed+1 || dropped[maxNamed] != "and more" {
		t.Errorf("%d of 1020 are kept, dropped %q", kept, dropped)
	}
}

func planFor(t *testing.T) *Plan {
	t.Helper()
	p, err := New("q", Schedule(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// RabbitMQ delivers what no producer sends. It is left out and named, also by the next hop.
func TestWhatNoProducerSendsIsLeftOutAndNamed(t *testing.T) {
	p := planFor(t)
	d := &consumer.Delivery{Queue: "q", Delivery: amqp.Delivery{ReplyTo: "a\nb", DeliveryMode: 7, Headers: amqp.Table{"deep": deep(20), "kept": "k"}}}
	for round := range 3 {
		msg := p.publishing(d, hop{story: read(d)}, wire.MaxHeaders)
		dropped := fmt.Sprint(msg.Headers[HeaderDropped])
		if msg.ReplyTo != "" || msg.DeliveryMode != amqp.Persistent || msg.Headers["kept"] != "k" || dropped != "[reply-to delivery-mode deep]" {
			t.Errorf("round %d: %+v, dropped %s", round, msg, dropped)
		}
		d = &consumer.Delivery{Queue: "q", Delivery: amqp.Delivery{ReplyTo: msg.ReplyTo, DeliveryMode: msg.DeliveryMode, Headers: msg.Headers}}
	}
}

func TestAForgedStoryIsShortened(t *testing.T) {
	long := strings.Repeat("x", 90_000)
	d := &consumer.Delivery{Queue: "q", Delivery: amqp.Delivery{Headers: amqp.Table{
		HeaderQueue: "q", HeaderAttempts: int64(1), HeaderHistory: []any{long, int64(7), long}, HeaderKey: long, HeaderExchange: long, HeaderExpiration: long,
		HeaderUserID: long, HeaderError: long, HeaderErrorType: long, HeaderPark: long, HeaderDropped: []any{long, long}, "kept": "k",
	}}}
	h := planFor(t).publishing(d, hop{story: read(d)}, wire.MaxHeaders).Headers
	if p := wire.Table(h); p != nil || h["kept"] != "k" || len(fmt.Sprint(h)) > 10_000 {
		t.Errorf("%v, %d bytes, kept: %v", p, len(fmt.Sprint(h)), h["kept"])
	}
}

func deep(n int) any {
	if n == 0 {
		return "end"
	}
	return amqp.Table{"t": deep(n - 1)}
}

// FuzzRead checks that no headers break a story, and that what is made of them can be sent.
func FuzzRead(f *testing.F) {
	f.Add("q", int64(3), "2026-01-01T00:00:00.000Z", "text", "k", "v")
	f.Fuzz(func(t *testing.T, queue string, n int64, at, text, key, value string) {
		p, err := New("q", Schedule(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		d := &consumer.Delivery{Delivery: amqp.Delivery{Headers: amqp.Table{
			HeaderQueue: queue, HeaderAttempts: n, HeaderFirstFailure: at, HeaderDue: at, HeaderHistory: []any{text, n}, HeaderCC: text, key: value,
		}}, Queue: "q"}
		s := read(d)
		if s.attempts < 0 {
			t.Fatalf("%d attempts", s.attempts)
		}
		before := s.attempts
		s.fails(errors.New(text), time.Now())
		if s.attempts != before+1 {
			t.Fatalf("%d attempts after %d", s.attempts, before)
		}
		if p := wire.Table(p.publishing(d, hop{story: s}, wire.MaxHeaders).Headers); p != nil {
			t.Fatalf("refused: %+v", p)
		}
	})
}

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
			h := p.publishing(d, s, WhyAttempts).Headers
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
		if p := wire.Table(p.publishing(d, s, "").Headers); p != nil {
			t.Fatalf("refused: %+v", p)
		}
	})
}

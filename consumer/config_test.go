package consumer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

type noConnection struct{}

func (noConnection) ConsumeConnection(ctx context.Context) (*amqp.Connection, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func nop(context.Context, *Delivery) error { return nil }

func TestNewReportsAllInvalidFieldsAtOnce(t *testing.T) {
	_, err := New(nil, Config{
		Workers:      -1,
		Prefetch:     1 << 16,
		TagPrefix:    strings.Repeat("t", 250),
		Arguments:    amqp.Table{"x-stream-offset": "firts", "n": uint64(1 << 63)},
		DrainTimeout: -1,

		MaxBodySize: -1,

		Middleware: []Middleware{nil},
	}, nil)
	if err == nil {
		t.Fatal("New accepted it")
	}
	for _, field := range []string{
		"Queue", "Workers", "Prefetch", "TagPrefix", `Arguments["x-stream-offset"]`, `Arguments["n"]`, "DrainTimeout", "MaxBodySize", "Middleware[0]", "conn", "handler",
	} {
		if !strings.Contains(err.Error(), "consumer: "+field+": ") {
			t.Errorf("New does not report %s:\n%v", field, err)
		}
	}
	var f *amqperr.FieldError
	if !errors.As(err, &f) || !amqperr.IsPermanent(err) {
		t.Errorf("New = %T, want joined *FieldErrors", err)
	}
}

func TestNewAcceptsConfigsThatRabbitMQAccepts(t *testing.T) {
	for name, cfg := range map[string]Config{
		"a queue":        {Queue: "orders"},
		"declared later": {Declare: func(context.Context, *amqp.Connection) (string, error) { return "amq.gen-1", nil }},
		"limits":         {Queue: strings.Repeat("q", 255), Workers: 65535, Prefetch: 65535, TagPrefix: strings.Repeat("t", maxTag)},
		"stream offsets": {Queue: "s", Arguments: amqp.Table{"x-stream-offset": "5m"}},
		"stream numbers": {Queue: "s", Arguments: amqp.Table{"x-stream-offset": int64(17)}},
		"filters":        {Queue: "s", Arguments: amqp.Table{"x-stream-filter": []any{"eu", "us"}, "x-stream-match-unfiltered": true}},
		"one filter":     {Queue: "s", Arguments: amqp.Table{"x-stream-filter": "eu"}},
		"a queue's":      {Queue: "q", Arguments: amqp.Table{"x-priority": -5, "x-consumer-timeout": uint32(60_000), "x-cancel-on-ha-failover": true}},
		"own metadata":   {Queue: "q", Arguments: amqp.Table{"team": "billing"}},
		"meant":          {Queue: "q", Arguments: amqp.Table{"x-of-a-plugin": 1, "x-priorty": 1}, AllowUnknownArguments: true},
		"stream times":   {Queue: "s", Arguments: amqp.Table{"x-stream-offset": time.Unix(0, 0)}},
	} {
		if _, err := New(noConnection{}, cfg, nop); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestS91ConsumeArgumentsAreChecked(t *testing.T) {
	for _, test := range []struct {
		key   string
		value any
		want  string
	}{
		{"x-stream-ofset", "first", `did you mean "x-stream-offset"?`},
		{"stream-offset", "first", `did you mean "x-stream-offset"?`},
		{"X-Priority", 1, `did you mean "x-priority"?`},
		{"x-stream-filters", "eu", `did you mean "x-stream-filter"?`},
		{"x-max-length", 1, "AllowUnknownArguments"},
		{"x-priority", "5", "is a string, and RabbitMQ expects a whole number"},
		{"x-priority", 1.5, "is a float64"},
		{"x-consumer-timeout", -1, "not below zero"},
		{"x-consumer-timeout", "1m", "a whole number of milliseconds"},
		{"x-cancel-on-ha-failover", "true", "expects a bool"},
		{"x-stream-match-unfiltered", 1, "expects a bool"},
		{"x-stream-filter", []any{"eu", 1}, "a []any of strings"},
		{"x-stream-offset", 1.5, "not a stream offset"},
	} {
		_, err := New(noConnection{}, Config{Queue: "q", Arguments: amqp.Table{test.key: test.value}}, nop)
		var f *amqperr.FieldError
		if !errors.As(err, &f) || f.Field != `Arguments["`+test.key+`"]` || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New with %s %v = %v, want an amqperr.FieldError for it with %s", test.key, test.value, err, test.want)
		}
	}
}

func TestZeroConfigHasTheDocumentedDefaults(t *testing.T) {
	c := Config{Queue: "q"}.withDefaults()
	if c.Workers != 1 || c.Prefetch != 32 || c.DrainTimeout != 30*time.Second {
		t.Errorf("Workers %d, Prefetch %d, Drain %v; want 1, 32, 30s", c.Workers, c.Prefetch, c.DrainTimeout)
	}
	if c := (Config{Queue: "q", Workers: 20}).withDefaults(); c.Prefetch != 60 {
		t.Errorf("Prefetch for 20 workers = %d, want 60", c.Prefetch)
	}
	if c := (Config{Queue: "q", Workers: 40_000}).withDefaults(); c.Prefetch != maxPrefetch {
		t.Errorf("Prefetch for 40,000 workers = %d, want %d", c.Prefetch, maxPrefetch)
	}
}

func TestDefaultBackoffRetriesWithin20msThenWithinASecondIndefinitely(t *testing.T) {
	for range 100 {
		b := defaultBackoff()
		for i := range 50 {
			limit := 800 * time.Millisecond // as of amqpkit.Config
			if i == 0 {
				limit = 20 * time.Millisecond
			}
			if d := b.NextBackOff(); d == backoff.Stop || d > limit+time.Nanosecond {
				t.Fatalf("delay %d is %v, want at most %v", i, d, limit)
			}
		}
	}
}

func TestTagIsReadableUniqueAndFits(t *testing.T) {
	long := strings.Repeat("é", 127) // 254 bytes: cut within a rune
	for name, c := range map[string]struct {
		cfg   Config
		queue string
		begin string
	}{
		"the queue's name": {Config{}, "orders", "orders-"},
		"Config.Tag":       {Config{TagPrefix: "billing"}, "orders", "billing-"},
		"a long name":      {Config{}, long, "éé"},
	} {
		one, two := c.cfg.newTag(c.queue), c.cfg.newTag(c.queue)
		if !strings.HasPrefix(one, c.begin) || one == two || len(one) > 255 || !utf8.ValidString(one) {
			t.Errorf("%s: tags %q and %q", name, one, two)
		}
	}
}

package parking

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/history"
)

// FuzzExport checks that a message can be told from its line in every byte, whatever its strings are.
func FuzzExport(f *testing.F) {
	f.Add("text/plain", "name", "value", int64(1_700_000_000), []byte("body"))
	f.Add("\xff", "\xff\xfe", "\xc3", int64(1)<<62, []byte{0xff})
	f.Add("\ufffd", "\ufffd", "</script>\u2028", int64(-1)<<62, []byte(nil))
	f.Fuzz(func(t *testing.T, property, name, value string, seconds int64, body []byte) {
		d := &amqp.Delivery{
			Headers:     amqp.Table{name: value, "\xfe": []any{value, amqp.Table{name: property}}, "t": amqp.Table{name: time.Unix(seconds, 0)}},
			ContentType: property, ContentEncoding: value, DeliveryMode: amqp.Persistent, Priority: 9, CorrelationId: name, ReplyTo: value,
			Expiration: property, MessageId: name, Timestamp: time.Unix(seconds, 0), Type: value, UserId: property, AppId: name, Body: body,
		}
		if d.Timestamp.IsZero() { // amqp091-go would not send it either
			d.Timestamp = time.Time{}
		}
		before := lineOf(d)
		b, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		var after line
		if err := json.Unmarshal(b, &after); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s is of %+v, not of %+v", b, after, before)
		}
	})
}

type publisherFunc func(queue string, msg amqp.Publishing) error

func (f publisherFunc) Republish(_ context.Context, _, queue string, msg amqp.Publishing) error {
	return f(queue, msg)
}

func TestImportPublishesWhatWasExportedInEveryByte(t *testing.T) {
	d := &amqp.Delivery{
		Headers:     amqp.Table{"raw": "\xff", "table": amqp.Table{"text": "\xfe"}},
		ContentType: "\xff", CorrelationId: "\xfe\xff", MessageId: "\x80", Type: "\xc3", AppId: "a\xffb", Timestamp: time.Date(12_000, 1, 1, 0, 0, 0, 0, time.UTC), Body: []byte("\xff"),
	}
	b, err := json.Marshal(lineOf(d))
	if err != nil {
		t.Fatal(err)
	}
	n, err := Import(t.Context(), publisherFunc(func(_ string, m amqp.Publishing) error {
		if m.ContentType != d.ContentType || m.CorrelationId != d.CorrelationId || m.MessageId != d.MessageId || m.Type != d.Type || m.AppId != d.AppId ||
			!m.Timestamp.Equal(d.Timestamp) || !bytes.Equal(m.Body, d.Body) || !reflect.DeepEqual(m.Headers, d.Headers) {
			t.Errorf("imported %+v, want %+v", m, d)
		}
		return nil
	}), "q", bytes.NewReader(b))
	if n != 1 || err != nil {
		t.Errorf("Import = %d, %v", n, err)
	}
}

func TestImportStopsAtTheFirstLineThatIsNoMessage(t *testing.T) {
	const good = `{"headers":null,"message_id":"m","body":"Ym9keQ=="}` + "\n"
	full := errors.New("full")
	for bad, word := range map[string]string{
		`{"headers":null,"bo` + "\n":                 "line 2",
		`{"headers":null,"body":"*"}`:                "line 2",
		`{"headers":{"int8":300},"body":""}`:         "int8",
		`{"headers":{"int99":3},"body":""}`:          "unknown",
		`{"headers":{"table":{"a":[1]}},"body":""}`:  "no header value",
		`{"headers":{"entries":[[1,2]]},"body":""}`:  "no header value",
		`{"headers":{"entries":[[null]]},"body":""}`: "no string",
		`{"headers":"text","body":""}`:               "no table",
		`{"timestamp":"text","body":""}`:             "no time",
		`{"type":{"int8":3},"body":""}`:              "no string",
		`{"id":17,"name":"of another file"}`:         "unknown field",
		`[]`:                                         "line 2",
		`text`:                                       "line 2",
	} {
		published := 0
		to := publisherFunc(func(queue string, m amqp.Publishing) error {
			if published++; queue != "q" || m.MessageId != "m" || string(m.Body) != "body" {
				t.Errorf("%s: published %+v to %s", bad, m, queue)
			}
			return nil
		})
		n, err := Import(t.Context(), to, "q", strings.NewReader(good+bad+"\n"+good))
		if n != 1 || published != 1 || err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: Import = %d, %v after %d", bad, n, err, published)
		}
	}
	calls := 0
	n, err := Import(t.Context(), publisherFunc(func(string, amqp.Publishing) error {
		if calls++; calls == 2 {
			return full
		}
		return nil
	}), "q", strings.NewReader(good+good+good))
	if n != 1 || !errors.Is(err, full) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("Import into a full queue = %d, %v", n, err)
	}
}

func died(queue, reason string) amqp.Table {
	return amqp.Table{"queue": queue, "reason": reason, "exchange": "x", "routing-keys": []any{"key." + queue}, "count": int64(1)}
}

func TestAParkedMessageBelongsToTheQueueWhereItDiedLast(t *testing.T) {
	story := amqp.Table{
		history.HeaderQueue: "a", history.HeaderExchange: "orders", history.HeaderKey: "order.paid", history.HeaderAttempts: int64(2), history.HeaderError: "boom", history.HeaderHistory: []any{"first"},
		history.HeaderCC: []any{"c"}, history.HeaderUserID: "guest", history.HeaderExpiration: "60", history.HeaderDropped: []any{"large"}, "tenant": "t",
	}
	for name, c := range map[string]struct {
		headers         amqp.Table
		deaths          []any
		queue, key, why string
		told            bool // the story
	}{
		"parked by the middleware":               {story, nil, "a", "order.paid", "", true},
		"without a story":                        {nil, []any{died("b", "rejected"), died("c", "expired")}, "b", "key.b", "rejected", false},
		"died elsewhere":                         {story, []any{died("b", "rejected"), died("a", "rejected")}, "b", "key.b", "rejected", false},
		"died in flight":                         {story, []any{died("a", "delivery_limit"), died("a.wait.10s", "expired")}, "a", "order.paid", "delivery_limit", true},
		"back from a wait queue":                 {story, []any{died("a.wait.10s", "expired")}, "a", "order.paid", "", true},
		"moved on by the parking queue":          {story, []any{died("a.parked", "expired"), died("a.wait.10s", "expired")}, "a", "order.paid", "", true},
		"in a queue that is named like a wait's": {story, []any{died("a.wait.room", "rejected")}, "a.wait.room", "key.a.wait.room", "rejected", false},
		"in another plan's wait queue":           {story, []any{died("b.wait.10s", "expired")}, "b.wait.10s", "key.b.wait.10s", "expired", false},
		"unknown":                                {amqp.Table{"x-death": "text"}, nil, "", "", "", false},
		"hardly known":                           {nil, []any{"text", amqp.Table{"queue": "b", "routing-keys": []any{}}}, "b", "", "", false},
	} {
		d := &amqp.Delivery{Headers: amqp.Table{"CC": []any{"now"}}, UserId: "now"}
		for k, v := range c.headers {
			d.Headers[k] = v
		}
		if c.deaths != nil {
			d.Headers["x-death"] = c.deaths
		}
		m := parkedFrom(d)
		if m.Queue != c.queue || m.Key != c.key || m.Why != c.why || (m.Attempts == 2) != c.told || (m.Error == "boom") != c.told || (len(m.History) == 1) != c.told {
			t.Errorf("%s: %+v", name, m)
		}
		imported := lineOf(d)
		for how, msg := range map[string]func() (*history.Copy, error){
			"imported": imported.outgoing,
			"replayed": func() (*history.Copy, error) { return m.again(time.Now()), nil },
		} {
			o, err := msg()
			h := o.Publishing().Headers
			_, dropped := h[history.HeaderDropped]
			entries, _ := h[history.HeaderHistory].([]any)
			if err != nil || history.Text(h, history.HeaderQueue) != c.queue || history.Text(h, history.HeaderKey) != c.key || h["x-death"] != nil || h["CC"] != nil || dropped != (c.headers[history.HeaderDropped] != nil) {
				t.Errorf("%s, %s: %v, %v", name, how, h, err)
			}
			if foreign := len(entries) > 0 && entries[0] == "first"; foreign != c.told {
				t.Errorf("%s, %s with the history %v", name, how, entries)
			}
			if cc, _ := h[history.HeaderCC].([]any); len(cc) != 1 || cc[0] != "now" || h[history.HeaderUserID] != "now" || (h[history.HeaderExpiration] == "60") != c.told {
				t.Errorf("%s, %s: cc %v, user id %v, expiration %v", name, how, cc, h[history.HeaderUserID], h[history.HeaderExpiration])
			}
		}
	}
}

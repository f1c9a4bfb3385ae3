package parking

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/amqpjson"
	"github.com/amqpkit/amqpkit/internal/history"
)

// exported returns the message of an exported line.
func exported(t *testing.T, p amqp.Publishing) (amqp.Publishing, string) {
	t.Helper()
	b, err := json.Marshal(amqpjson.Encode(p))
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal(b, &line); err != nil {
		t.Fatal(err)
	}
	after, err := amqpjson.Decode(line)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return after, string(b)
}

// FuzzExport checks that a line holds every byte of a message.
func FuzzExport(f *testing.F) {
	f.Add("text/plain", "name", "value", int64(1_700_000_000), 0.1, []byte("body"))
	f.Add("\xff", "\xff\xfe", "\xc3", int64(1)<<62, math.Inf(-1), []byte{0xff})
	f.Add("\ufffd", "int64:5", "base64:Kg==", int64(-1)<<62, 1e300, []byte(nil))
	f.Add("decimal:", "</script>\u2028", "int64", int64(0), math.SmallestNonzeroFloat32, []byte(nil))
	f.Fuzz(func(t *testing.T, property, name, value string, number int64, float float64, body []byte) {
		if math.IsNaN(float) { // it is not equal to itself
			float = 0
		}
		before := amqp.Publishing{
			Headers: amqp.Table{
				name: value, "\xfe": []any{value, amqp.Table{name: property}, nil, true, body}, "t": amqp.Table{name: time.Unix(number, 0)},
				"ints": []any{int8(number), uint8(number), int16(number), uint16(number), int32(number), uint32(number), number},
				"rest": []any{float, float32(float), amqp.Decimal{Scale: uint8(number), Value: int32(number)}, []any{}, amqp.Table{}},
			},
			ContentType: property, ContentEncoding: value, DeliveryMode: amqp.Persistent, Priority: uint8(number), CorrelationId: name, ReplyTo: value,
			Expiration: property, MessageId: name, Timestamp: time.Unix(number, 0), Type: value, UserId: property, AppId: name, Body: body,
		}
		if before.Timestamp.IsZero() { // amqp091-go would not send it either
			before.Timestamp = time.Time{}
		}
		if len(body) == 0 {
			before.Body, before.Headers["\xfe"].([]any)[4] = nil, []byte{}
		}
		if after, line := exported(t, before); !reflect.DeepEqual(before, after) {
			t.Errorf("%s is %+v, want %+v", line, after, before)
		}
	})
}

func TestAnExportedLineCanBeRead(t *testing.T) {
	nan, line := exported(t, amqp.Publishing{
		Headers: amqp.Table{"tenant": "é", "n": int64(5), "at": time.Unix(1_700_000_000, 0), "list": []any{nil, true}, "raw": "\xff", "nan": math.NaN()}, MessageId: "m", Priority: 2, Body: []byte("body"),
	})
	if want := `{"body":"bytes:Ym9keQ==","headers":{"at":"time:1700000000","list":[null,true],"n":"int64:5","nan":"float64:NaN","raw":"base64:/w==","tenant":"é"},"message_id":"m","priority":"uint8:2"}`; line != want {
		t.Errorf("got %s, want %s", line, want)
	}
	if f, ok := nan.Headers["nan"].(float64); !ok || !math.IsNaN(f) {
		t.Errorf("%v is not NaN", nan.Headers["nan"])
	}
}

type publisherFunc func(queue string, msg amqp.Publishing) error

type done struct{}

func (done) Wait(context.Context) error { return nil }

func (f publisherFunc) RepublishAsync(_ context.Context, _, queue string, msg amqp.Publishing) (done, error) {
	return done{}, f(queue, msg)
}

func TestImportStopsAtTheFirstLineThatIsNoMessage(t *testing.T) {
	const good = `{"message_id":"m","body":"bytes:Ym9keQ=="}` + "\n"
	full := errors.New("full")
	for bad, word := range map[string]string{
		`{"bo` + "\n":                   "line 2",
		`{"body":"bytes:*"}`:            "base64",
		`{"headers":{"a":"int8:300"}}`:  "overflow",
		`{"headers":{"a":"int64:"}}`:    "int64:",
		`{"headers":{"a":[1]}}`:         "a number has no type",
		`{"headers":{"int64:5":"a"}}`:   "is not a name",
		`{"headers":"text"}`:            "headers: a string",
		`{"timestamp":"text"}`:          "timestamp: a string",
		`{"type":"int8:3"}`:             "type: a int8",
		`{"id":17,"name":"of another"}`: "unknown field",
		`[]`:                            "line 2",
		`text`:                          "line 2",
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
		headers            amqp.Table
		deaths             []any
		queue, key, reason string
		told               bool // the story
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
		m := newMessage(d)
		if m.Queue != c.queue || m.Key != c.key || m.Reason != c.reason || (m.Attempts == 2) != c.told || (m.Error == "boom") != c.told || (len(m.History) == 1) != c.told {
			t.Errorf("%s: %+v", name, m)
		}
		msg := history.Publishing(d)
		for how, o := range map[string]*history.Copy{
			"imported": history.NewCopy(msg, history.Latest(msg.Headers)),
			"replayed": history.Replayed(d, time.Now()),
		} {
			h := o.Publishing().Headers
			_, dropped := h[history.HeaderDropped]
			entries, _ := h[history.HeaderHistory].([]any)
			if history.Text(h, history.HeaderQueue) != c.queue || history.Text(h, history.HeaderKey) != c.key || h["x-death"] != nil || h["CC"] != nil || dropped != (c.headers[history.HeaderDropped] != nil) {
				t.Errorf("%s, %s: %v", name, how, h)
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

package publishing

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// rawConnection is a Connection that amqpkit did not dial.
type rawConnection struct{ *amqp.Connection }

func (c rawConnection) PublishConnection(context.Context) (*amqp.Connection, error) {
	return c.Connection, nil
}

func TestS54HeadersLargerThanAFrameAreRefused(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	b.refused(`Headers["big"]`, "", b.queue, amqp.Publishing{Headers: amqp.Table{"big": strings.Repeat("x", 140_000)}})
	many := amqp.Table{}
	for i := range 700 {
		many[fmt.Sprint("h", i)] = strings.Repeat("x", 200)
	}
	b.refused(`Headers[`, "", b.queue, amqp.Publishing{Headers: many})
	if d := b.taken(amqp.Publishing{Headers: amqp.Table{"big": strings.Repeat("x", 99_000)}, Type: strings.Repeat("x", 255)}); len(d.Headers["big"].(string)) != 99_000 {
		t.Errorf("of the largest header %d bytes came", len(d.Headers["big"].(string)))
	}

	// What fits RabbitMQ's default frames need not fit those of this connection.
	ac, err := amqp.DialConfig(kit.Broker(t).URL(), amqp.Config{FrameSize: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer ac.Close()
	p := kit.NewProducer(t, rawConnection{ac}, producer.Config{})
	ctx := kit.Within(t, 10*time.Second)
	var field *amqperr.FieldError
	err = p.Publish(ctx, "", b.queue, amqp.Publishing{Headers: amqp.Table{"big": strings.Repeat("x", 17_000)}})
	if !errors.Is(err, producer.ErrNotPublished) || !errors.As(err, &field) || field.Field != `Headers["big"]` || !strings.Contains(field.Fix, "frame_max") {
		t.Errorf("with frames of 16 KiB: %v, want a FieldError that tells of frame_max", err)
	}
	if err := p.Publish(ctx, "", b.queue, amqp.Publishing{Headers: amqp.Table{"small": strings.Repeat("x", 12_000)}}); err != nil || ac.IsClosed() {
		t.Errorf("with smaller headers: %v, connection closed: %v", err, ac.IsClosed())
	}
}

// nested returns a table of that many tables within each other.
func nested(depth int) amqp.Table {
	t := amqp.Table{}
	for range depth - 1 {
		t = amqp.Table{"t": t}
	}
	return t
}

// amqp091-go as a consumer cannot read them: every consumer's connection would die with the delivery.
func TestS55HeadersThatCannotBeReadAreRefused(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	b.refused("Headers", "", b.queue, amqp.Publishing{Headers: nested(40)})
	b.refused("Headers", "", b.queue, amqp.Publishing{Headers: amqp.Table{"l": make([]any, 8300)}})
	many, most := amqp.Table{}, amqp.Table{}
	for i := range 8300 {
		many[fmt.Sprint(i)] = int8(0)
		if i < 1024 {
			most[fmt.Sprint(i)] = int8(0)
		}
	}
	b.refused("Headers", "", b.queue, amqp.Publishing{Headers: many})
	array := []any{}
	for range 40 {
		array = []any{array}
	}
	b.refused("Headers", "", b.queue, amqp.Publishing{Headers: amqp.Table{"a": array}})
	if d := b.taken(amqp.Publishing{Headers: most}); len(d.Headers) != 1024 {
		t.Errorf("of 1024 headers %d came", len(d.Headers))
	}
	b.taken(amqp.Publishing{Headers: nested(16)})
}

// amqp091-go's own check recurses until the stack of the process is used up.
func TestS56CyclicTableIsRefused(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	self, through, a := amqp.Table{}, amqp.Table{}, amqp.Table{}
	self["self"] = self
	through["list"] = []any{1, through}
	a["b"] = amqp.Table{"a": a}
	for _, table := range []amqp.Table{self, through, a} {
		b.refused("Headers", "", b.queue, amqp.Publishing{Headers: table})
		q := topology.Queue{Name: "q", Arguments: table, AllowUnknownArguments: true}
		var field *amqperr.FieldError
		if err := (topology.Topology{Queues: []topology.Queue{q, q}}).Validate(); !errors.As(err, &field) {
			t.Errorf("Validate = %v, want a FieldError", err)
		}
	}
}

func TestS58TypesThatAMQPCannotCarryAreRefusedWithTheTypeToUse(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	type status string
	for want, v := range map[string]any{
		"int64":              uint64(1 << 63),
		"or a string":        uint(math.MaxUint),
		"leave it out":       time.Time{},
		"to a string":        amqp.Decimal{Scale: 2, Value: 314},
		"[]any":              []string{"a"},
		"amqp.Table":         map[string]any{"a": 1},
		"int64 milliseconds": time.Second,
		"to a string,":       status("paid"),
		"send it as":         math.NaN(),
		"convert it":         struct{}{},
		"amqp.Table or":      []int{1},
	} {
		b.refused(`Headers["v"]`, "", b.queue, amqp.Publishing{Headers: amqp.Table{"v": v}})
		b.refused(`Headers["l"][1]`, "", b.queue, amqp.Publishing{Headers: amqp.Table{"l": []any{1, v}}})
		err := b.p.Publish(t.Context(), "", b.queue, amqp.Publishing{Headers: amqp.Table{"v": v}})
		var f *amqperr.FieldError
		if !errors.As(err, &f) || !strings.Contains(f.Fix, want) {
			t.Errorf("a %T: %v does not tell to use %s", v, err, want)
		}
	}
	at := time.Date(2026, 11, 3, 10, 0, 0, 999, time.UTC)
	sent := amqp.Table{
		"bool": true, "int": math.MinInt32, "int8": int8(-1), "uint8": uint8(1), "int16": int16(2), "uint16": uint16(3), "int32": int32(4), "uint32": uint32(math.MaxUint32),
		"int64": int64(math.MinInt64), "float32": float32(1.5), "float64": 2.5, "string": "s", "bytes": []byte("b"), "nil": nil, "time": at,
		"list": []any{1, "a"}, "table": amqp.Table{"a": 1}, "uint": uint(5), "uint64": uint64(6), "large": math.MaxInt,
	}
	got := b.taken(amqp.Publishing{Headers: sent}).Headers
	for name, v := range sent {
		want := fmt.Sprint(v)
		if name == "time" { // AMQP 0-9-1 carries whole seconds
			want = fmt.Sprint(at.Truncate(time.Second))
			got[name] = got[name].(time.Time).UTC()
		}
		if fmt.Sprint(got[name]) != want {
			t.Errorf("%s: sent %v, got %v", name, v, got[name])
		}
	}
}

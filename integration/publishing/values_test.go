package publishing

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// readBy receives the messages of a queue with another client and returns the line that it printed for each.
func readBy(t *testing.T, client, queue string, n int) (messages []map[string]any) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), kit.Python, "-c", "import "+client).CombinedOutput(); err != nil {
		t.Fatalf("%s is missing (%v: %s); install it: apt-get install -y --no-install-recommends python3-%s", client, err, out, client)
	}
	ctx := kit.Within(t, 20*time.Second)
	script := filepath.Join("testdata", "clients", "read.py")
	out, err := exec.CommandContext(ctx, kit.Python, script, client, kit.Broker(t).URL(), queue, fmt.Sprint(n)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s cannot read it: %v\n%s", client, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, line := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s printed %q: %v", client, line, err)
		}
		messages = append(messages, m)
	}
	if len(messages) != n {
		t.Fatalf("%s read %d messages, want %d", client, len(messages), n)
	}
	return messages
}

// Values that Publish accepts are read by Python's clients as they were sent, and the others are refused.
func TestS90EveryHeaderIsReadByOtherClients(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	large := int64(1) << 40
	sent := amqp.Table{
		"int": 5, "large": int(large), "uint": uint(6), "uint64": uint64(7), "int8": int8(-8), "uint8": uint8(200), "int16": int16(-16), "uint16": uint16(65535),
		"int32": int32(-32), "uint32": uint32(math.MaxUint32), "int64": int64(64), "float": 2.0, "text": "é", "bytes": []byte{1, 255}, "nil": nil, "bool": true,
		"first": time.Unix(0, 0), "time": at, "last": time.Unix(253_402_300_799, 0), "table": amqp.Table{"n": int16(-1)}, "list": []any{int8(-1), 1, nil},
	}
	want := `{"bool":true,"bytes":"bytes Af8=","first":"time 1970-01-01T00:00:00","float":2,"int":5,"int16":-16,"int32":-32,"int64":64,"int8":-8,"large":1099511627776,` +
		`"last":"time 9999-12-31T23:59:59","list":[-1,1,null],"nil":null,"table":{"n":-1},"text":"é","time":"time 2026-11-30T10:00:00","uint":6,"uint16":65535,` +
		`"uint32":4294967295,"uint64":7,"uint8":200}`
	ctx := kit.Within(t, 40*time.Second)
	for _, client := range []string{"pika", "amqp"} {
		for _, msg := range []amqp.Publishing{{Headers: sent, MessageId: "é", Timestamp: at}, {Headers: amqp.Table{"n": 1}}} {
			if err := b.p.Publish(ctx, "", b.queue, msg); err != nil {
				t.Fatal(err)
			}
		}
		got := readBy(t, client, b.queue, 2)[0]
		for _, count := range []string{"x-delivery-count", "x-acquired-count"} { // RabbitMQ's, of a redelivery
			delete(got["headers"].(map[string]any), count)
		}
		if text, err := json.Marshal(got["headers"]); err != nil || string(text) != want {
			t.Errorf("%s read %s (%v),\n want %s", client, text, err, want)
		}
		if got["message_id"] != "é" || got["timestamp"] == nil {
			t.Errorf("%s read %v", client, got)
		}
	}
	for _, v := range []any{time.Time{}, time.Unix(-1, 0), time.Unix(253_402_300_800, 0), uint64(1 << 63), uint(math.MaxUint), amqp.Decimal{}, math.Inf(1)} {
		b.refused(`Headers["v"]`, "", b.queue, amqp.Publishing{Headers: amqp.Table{"v": v}})
	}
	for _, at := range []time.Time{time.Unix(-1, 0), time.Unix(253_402_300_800, 0)} {
		b.refused("Timestamp", "", b.queue, amqp.Publishing{Timestamp: at})
	}
}

// RabbitMQ closes the connection over a decimal that it is to store in a stream. Everything else fits in.
func TestS90WhatIsAcceptedFitsIntoAStream(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	stream := kit.Unique("stream")
	ch := kit.RawChannel(t)
	if _, err := ch.QueueDeclare(stream, true, false, false, false, amqp.Table{"x-queue-type": "stream"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = kit.RawChannel(t).QueueDelete(stream, false, false, false) })
	ctx := kit.Within(t, 20*time.Second)
	for name, msg := range map[string]amqp.Publishing{
		"integers":  {Headers: amqp.Table{"a": int8(1), "b": uint8(1), "c": int16(1), "d": uint16(1), "e": int32(1), "f": uint32(1), "g": math.MaxInt, "h": uint(1), "x-i": uint64(1)}},
		"others":    {Headers: amqp.Table{"a": nil, "b": true, "c": float32(1), "d": 1e300, "e": []byte{255}, "x-f": []any{nil, amqp.Table{}}, "g": amqp.Table{}, "h": "\xff"}},
		"times":     {Headers: amqp.Table{"a": time.Unix(0, 0), "b": time.Unix(253_402_300_799, 0)}, Timestamp: time.Unix(253_402_300_799, 0)},
		"strings":   {ContentType: "é", ContentEncoding: "é", CorrelationId: "é", MessageId: "é", Type: "é", AppId: "é", ReplyTo: "é", Headers: amqp.Table{"é\x00": "\x00"}},
		"filter":    {Headers: amqp.Table{"x-stream-filter-value": "é"}},
		"deep":      {Headers: nested(17)},
		"empty key": {Headers: amqp.Table{"": ""}},
	} {
		if err := b.p.Publish(ctx, "", stream, msg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.sameSession()
}

// A received message that RabbitMQ breaks down over is given up alone.
func TestS90MessageThatBreaksTheBrokerCostsNoOther(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	stream := kit.Unique("stream")
	if _, err := kit.RawChannel(t).QueueDeclare(stream, true, false, false, false, amqp.Table{"x-queue-type": "stream"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = kit.RawChannel(t).QueueDelete(stream, false, false, false) })
	b := newInputBench(t, producer.Config{})
	ctx := kit.Within(t, 30*time.Second)
	receipts := make([]*producer.Receipt, 50)
	for i := range receipts {
		var err error
		if i == 25 {
			receipts[i], err = b.p.RepublishAsync(ctx, "", stream, amqp.Publishing{Headers: amqp.Table{"d": amqp.Decimal{Scale: 2, Value: 5}}})
		} else {
			receipts[i], err = b.p.PublishAsync(ctx, "", queue, amqp.Publishing{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range receipts {
		if err := r.Wait(ctx); i == 25 && kit.ReplyCode(err) != amqp.InternalError || i != 25 && err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if ctx.Err() != nil {
		t.Fatal(context.Cause(ctx))
	}
}

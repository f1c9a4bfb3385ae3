package retrying

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// A journal keeps the lines of a log.
type journal struct {
	mu    sync.Mutex
	lines []map[string]any
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (j *journal) Write(p []byte) (int, error) {
	line := map[string]any{}
	if err := json.Unmarshal(p, &line); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	return len(p), nil
}

// of returns the lines about a message whose text contains a word.
func (j *journal) of(id, word string) (found []map[string]any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if text, _ := l["msg"].(string); strings.Contains(text, word) && l["message_id"] == id {
			found = append(found, l)
		}
	}
	return found
}

// all returns the texts of all lines.
func (j *journal) all() (texts []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		texts = append(texts, fmt.Sprint(l["msg"]))
	}
	return texts
}

// nestedIn returns a table that contains n more, one within the other.
func nestedIn(n int) amqp.Table {
	t := amqp.Table{"end": "here"}
	for range n {
		t = amqp.Table{"t": t}
	}
	return t
}

func entries(n int) amqp.Table {
	t := amqp.Table{}
	for i := range n {
		t[fmt.Sprintf("h%04d", i)] = int32(i)
	}
	return t
}

// everyType has a header of each type that amqp091-go can send and receive.
var everyType = amqp.Table{
	"nil": nil, "bool": true, "int8": int8(-1), "uint8": uint8(200), "int16": int16(-2), "uint16": uint16(60_000), "int32": int32(-3),
	"uint32": uint32(4_000_000_000), "int64": int64(math.MinInt64), "float32": float32(1.5), "float64": 0.1, "string": "é\x00", "bytes": []byte{0, 255},
	"time": time.Unix(1_700_000_000, 0), "decimal": amqp.Decimal{Scale: 2, Value: 314}, "empty": amqp.Table{}, "list": []any{int32(1), "two", amqp.Table{"three": []any{nil}}},
}

// A content is all of a message that a publisher sets.
type content struct {
	amqp.Publishing
	exchange, key string
}

// contentOf is what a handler, or a reader of the parking queue, sees of a message, without the headers of the toolkit and RabbitMQ.
func contentOf(d amqp.Delivery) content {
	headers := amqp.Table{}
	maps.Copy(headers, d.Headers)
	maps.DeleteFunc(headers, func(name string, _ any) bool {
		return strings.HasPrefix(name, "x-amqpkit-") || strings.HasPrefix(name, "x-death") || strings.Contains(name, "-death-") ||
			name == "x-delivery-count" || name == "x-acquired-count"
	})
	return content{amqp.Publishing{
		Headers: headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp, Type: d.Type,
		AppId: d.AppId, Body: append([]byte{}, d.Body...),
	}, d.Exchange, d.RoutingKey}
}

// Attempt 1, wait queue, attempt 2, parking queue, replay, attempt 1: the message stays the same in every byte.
func TestS71CopiesCarryEverythingThatAConsumerCanReceive(t *testing.T) {
	log := &journal{}
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(50 * time.Millisecond), Logger: log.logger()}, proxy.URL())
	lost := kit.Observe(proxy)
	var mu sync.Mutex
	seen := map[string][]content{}
	handled := make(chan string, 100)
	end := b.start(2, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		seen[d.MessageId] = append(seen[d.MessageId], contentOf(d.Delivery))
		mu.Unlock()
		handled <- d.MessageId
		return errors.New(strings.Repeat("e", 1500))
	})
	now := time.Unix(time.Now().Unix(), 0)
	msgs := map[string]amqp.Publishing{
		"plain":            {Body: []byte("body")},
		"every type":       {Headers: everyType},
		"every property":   {ContentType: "a\xff", ContentEncoding: "utf-8", DeliveryMode: 1, Priority: 255, CorrelationId: "c\xff", ReplyTo: "r\ns", Timestamp: now, Type: "t", AppId: "a"},
		"delivery mode 0":  {DeliveryMode: 0, Timestamp: time.Unix(1, 0)},
		"delivery mode 7":  {DeliveryMode: 7},
		"1,100 entries":    {Headers: entries(1100)},
		"8,000 entries":    {Headers: entries(8000)},
		"1,100 in a table": {Headers: amqp.Table{"t": entries(1100)}},
		"latin-1":          {Headers: amqp.Table{"gr\xf6\xdfe": "\xfc", "t": amqp.Table{"\xe4": int32(1)}, "line\nbreak": "v"}},
		"99,900 bytes":     {Headers: amqp.Table{"h": strings.Repeat("x", 99_900)}},
		"1,024 entries":    {Headers: entries(1024)},
		"128,200 bytes":    {Headers: amqp.Table{"h": strings.Repeat("x", 128_200)}},
		"a stream filter":  {Headers: amqp.Table{"x-stream-filter-value": int32(7)}},
		"another package":  {Headers: amqp.Table{"x-amqpkit2": "kept"}},
		"CC":               {Headers: amqp.Table{"CC": []any{"nowhere"}}, Expiration: "3600000"},
	}
	for _, depth := range []int{17, 30, 31} {
		msgs[fmt.Sprintf("depth %d", depth)] = amqp.Publishing{Headers: amqp.Table{"deep": nestedIn(depth)}}
	}
	for id, m := range msgs {
		m.MessageId = id
		b.publish(m)
	}
	for range 2 * len(msgs) {
		kit.Receive(t, handled, "attempt")
	}
	ctx := kit.Within(t, 30*time.Second)
	kit.WaitFor(t, func() bool { return b.ready(b.plan.ParkingQueue()) == len(msgs) })
	end()
	parked, err := parking.Peek(ctx, b.conn, b.plan.ParkingQueue(), len(msgs)+1)
	if err != nil || len(parked) != len(msgs) {
		t.Fatalf("Peek = %d messages, %v", len(parked), err)
	}
	for _, p := range parked {
		if p.Attempts != 2 || p.Publishing.Headers[history.HeaderDropped] != nil {
			t.Errorf("%s is parked after %d attempts without %v", p.Publishing.MessageId, p.Attempts, p.Publishing.Headers[history.HeaderDropped])
		}
	}
	var file bytes.Buffer
	if n, err := parking.Export(ctx, b.conn, b.plan.ParkingQueue(), &file); err != nil || n != len(msgs) {
		t.Fatalf("Export = %d, %v", n, err)
	}
	archive := b.queue(nil)
	if n, err := parking.Import(ctx, b.p, archive, &file); err != nil || n != len(msgs) {
		t.Fatalf("Import = %d, %v", n, err)
	}
	if r, err := parking.Replay(ctx, b.conn, b.p, parking.ReplayConfig{Queue: b.plan.ParkingQueue(), Logger: log.logger()}); err != nil || r.Replayed != len(msgs) {
		t.Fatalf("Replay = %+v, %v", r, err)
	}
	b.start(2, func(_ context.Context, d *consumer.Delivery) error {
		mu.Lock()
		seen[d.MessageId] = append(seen[d.MessageId], contentOf(d.Delivery))
		mu.Unlock()
		handled <- d.MessageId
		return nil
	})
	for range len(msgs) {
		kit.Receive(t, handled, "replayed message")
	}
	for id := range msgs {
		got := seen[id]
		if len(got) != 3 || !reflect.DeepEqual(got[0], got[1]) || !reflect.DeepEqual(got[0], got[2]) {
			t.Errorf("%s: handled %d times, the first as %.300v, then as %.300v", id, len(got), fmt.Sprintf("%+v", got[0]), fmt.Sprintf("%+v", got[len(got)-1]))
		}
		if len(got[0].Headers) != len(msgs[id].Headers) {
			t.Errorf("%s: %d headers arrived of %d", id, len(got[0].Headers), len(msgs[id].Headers))
		}
	}
	for _, d := range kit.Take(t, archive, len(msgs)) {
		want, got := seen[d.MessageId][0], contentOf(d)
		got.key, want.Expiration = want.key, "" // the expiration and CC are in headers of the history
		delete(want.Headers, "CC")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: imported as %.300v, want %.300v", d.MessageId, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
		}
	}
	const closed = 3 // the separate connections of Peek, Export and Replay
	if n := len(lost.Of(amqptest.LinkClosed)); n != closed {
		t.Errorf("%d connections ended, want %d", n, closed)
	}
}

// Headers that do not fit are left out, named and logged. The copy can be read, although RabbitMQ adds headers with long names of
// queues to it.
func TestS71HeadersThatDoNotFitAreNamedInTheLogAndTheMessage(t *testing.T) {
	log := &journal{}
	b := newRetryBench(t, retry.Config{
		Queue: kit.Unique(strings.Repeat("q", 230)), Source: &topology.Queue{}, Policy: retry.Schedule(50 * time.Millisecond), Logger: log.logger(),
	}, "")
	long := strings.Repeat("e", 10_000)
	b.start(2, func(context.Context, *consumer.Delivery) error { return errors.New(long) })
	b.publish(
		amqp.Publishing{MessageId: "large", UserId: "guest", Headers: amqp.Table{"huge": strings.Repeat("x", 127_250), "small": "kept", "medium": strings.Repeat("x", 900)}},
		amqp.Publishing{MessageId: "many", Headers: entries(8190)},
	)
	parked := map[string]amqp.Delivery{}
	for _, d := range b.parked(2) {
		parked[d.MessageId] = d
	}
	large := parked["large"].Headers
	if fmt.Sprint(large[history.HeaderDropped]) != "[medium]" || large["huge"] == nil || large["small"] != "kept" || large[history.HeaderAttempts] != int64(2) {
		t.Errorf("parked without %v, with %d headers", large[history.HeaderDropped], len(large))
	}
	if lines := log.of("large", "dropped"); len(lines) != 1 || fmt.Sprint(lines[0]["dropped"]) != "[medium]" || lines[0]["level"] != "WARN" {
		t.Errorf("logged %v, want one warning, by the move that drops it", lines)
	}
	many := parked["many"].Headers
	if lines := log.of("many", "dropped"); len(lines) != 1 || len(many) < 8158 {
		t.Errorf("%d headers are left, logged %v", len(many), lines)
	}
}

// A Plan over a Producer that may lose unroutable messages loses none.
func TestS72APlanOverAProducerThatAllowsUnroutableLosesNothing(t *testing.T) {
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(50 * time.Millisecond)}, "")
	ctx := kit.Within(t, 30*time.Second)
	b.p = kit.NewProducer(t, b.conn, producer.Config{AllowUnroutable: true, Logger: slog.New(slog.DiscardHandler)})
	w := watched{b.p, make(chan struct{}, 1)}
	var calls callLog
	c, err := consumer.New(b.conn, consumer.Config{
		Queue: b.name, Logger: slog.New(slog.DiscardHandler), Middleware: []consumer.Middleware{b.plan.Middleware(w)},
	}, calls.fail)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(running) }()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.conn.PublishConnection(ctx); err != nil { // Setup declares the queue for both sessions
		t.Fatal(err)
	}
	if _, err := b.raw.QueueDelete(b.name+".wait.50ms", false, false, false); err != nil {
		t.Fatal(err)
	}
	b.publish(amqp.Publishing{MessageId: "m"})
	kit.Receive(t, w.refused, "return of the copy")
	if err := b.plan.Declare(ctx, kit.DialRaw(t)); err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return b.ready(b.plan.ParkingQueue()) == 1 })
	stop()
	if err := <-ran; err != nil {
		t.Errorf("Run = %v", err)
	}
	if n := len(calls.of("m")); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}

	// Replay and Import neither.
	fanout := topology.Topology{Exchanges: []topology.Exchange{{Name: b.name + ".x", Type: topology.Fanout}}}
	if err := fanout.Declare(ctx, kit.DialRaw(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kit.RawChannel(t).ExchangeDelete(b.name+".x", false, false) })
	var returned *producer.ReturnedError
	for exchange, key := range map[string]string{"": b.name + ".gone", b.name + ".x": "k"} {
		r, err := parking.Replay(ctx, b.conn, b.p, parking.ReplayConfig{
			Queue: b.plan.ParkingQueue(), To: func(parking.Message) (string, string) { return exchange, key },
		})
		if r.Skipped != 1 || !errors.As(err, &returned) {
			t.Errorf("to exchange %q: %+v, %v", exchange, r, err)
		}
	}
	if n, err := parking.Import(ctx, b.p, b.name+".gone", strings.NewReader(`{"body":"bytes:Ym9keQ=="}`)); n != 0 || !errors.As(err, &returned) {
		t.Errorf("Import = %d, %v", n, err)
	}
	if got := kit.Copies(b.parked(1)); got["m"] != 1 {
		t.Errorf("parked are %v", got)
	}
}

// RabbitMQ writes the names of the queues in which a message died into its headers, each several times.
func TestS71ACopyCanBeReadAfterItDiedInQueuesWithLongNames(t *testing.T) {
	t.Parallel()
	b := kit.NewConsumerBench(t)
	queue := kit.Unique(strings.Repeat("q", 225))
	var j journal
	plan, err := retry.New(retry.Config{
		Queue: queue, Policy: retry.Schedule(100 * time.Millisecond), Source: &topology.Queue{DeliveryLimit: new(1)}, Logger: j.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range plan.Topology().Queues {
		defer func() { _, _ = b.Plain.QueueDelete(q.Name, false, false, false) }()
	}
	ac, err := b.Conn.ConsumeConnection(b.Ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Declare(b.Ctx(), ac); err != nil {
		t.Fatal(err)
	}
	const smallest, step, n = 127_000, 100, 20
	for i := range n {
		c, err := b.Plain.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
			MessageId: fmt.Sprint(i), Headers: amqp.Table{"x": strings.Repeat("x", smallest+i*step)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := c.WaitContext(b.Ctx()); !ok {
			t.Fatal(err)
		}
	}
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{})
	failed := errors.New("failed")
	retried := plan.Middleware(p)(func(context.Context, *consumer.Delivery) error { return failed })
	r := b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: true}, func(ctx context.Context, d *consumer.Delivery) error {
		if _, waited := d.Headers["x-death"]; waited {
			return consumer.RejectRequeue(failed) // until the delivery limit
		}
		return retried(ctx, d)
	})
	kit.WaitFor(t, func() bool { return kit.Ready(t, plan.ParkingQueue()) == n })
	r.StopClean()
	parked, err := parking.Peek(b.Ctx(), b.Conn, plan.ParkingQueue(), n)
	if err != nil || len(parked) != n {
		t.Errorf("Peek = %d messages, %v", len(parked), err)
	}
	for _, m := range parked {
		if dropped := m.Publishing.Headers[history.HeaderDropped]; dropped == nil && m.Publishing.Headers["x"] == nil || dropped != nil && m.Publishing.MessageId == "0" {
			t.Errorf("message %s: dropped %v", m.Publishing.MessageId, dropped)
		}
	}
}

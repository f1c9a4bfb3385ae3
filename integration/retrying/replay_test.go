package retrying

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

var oneTry = retry.Config{Policy: retry.Schedule(100 * time.Millisecond).MaxAttempts(1), Source: &topology.Queue{DeliveryLimit: new(2)}}

// park publishes n messages straight into the parking queue, as Import does.
func (b *retryBench) park(n int) {
	b.t.Helper()
	var pending []*amqp.DeferredConfirmation
	for i := range n {
		pending = append(pending, b.send(b.plan.ParkingQueue(), amqp.Publishing{
			MessageId: fmt.Sprint(i), DeliveryMode: amqp.Persistent, Body: make([]byte, 100),
			Headers: amqp.Table{history.HeaderQueue: b.name, history.HeaderExchange: "", history.HeaderKey: b.name, history.HeaderAttempts: int64(1)},
		}))
	}
	b.confirm(pending)
}

// queue declares another queue of the test, and returns its name.
func (b *retryBench) queue(args amqp.Table) string {
	b.t.Helper()
	name := kit.Unique("archive")
	if _, err := b.raw.QueueDeclare(name, true, false, false, false, args); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _, _ = kit.RawChannel(b.t).QueueDelete(name, false, false, false) })
	return name
}

// send publishes with amqp091-go alone.
func (b *retryBench) send(queue string, msg amqp.Publishing) *amqp.DeferredConfirmation {
	b.t.Helper()
	c, err := b.raw.PublishWithDeferredConfirm("", queue, true, false, msg)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *retryBench) confirm(pending []*amqp.DeferredConfirmation) {
	b.t.Helper()
	for _, c := range pending {
		if ok, err := c.WaitContext(kit.Within(b.t, 60*time.Second)); !ok {
			b.t.Fatalf("publish: %v, %v", ok, err)
		}
	}
}

func TestS36TwentyFivePeeksLeaveAMessageParkedAlsoOneThatDiedOfTheDeliveryLimit(t *testing.T) {
	b := newRetryBench(t, oneTry, "")
	b.publish(amqp.Publishing{MessageId: "died"})
	for range 3 { // the limit, and one more
		kit.WaitFor(t, func() bool {
			d, ok, err := b.raw.Get(b.name, false)
			if err != nil {
				t.Fatal(err)
			}
			return ok && d.Reject(true) == nil
		})
	}
	kit.WaitFor(t, func() bool { return b.ready(b.plan.ParkingQueue()) == 1 })
	b.park(2)
	ctx := kit.Within(t, 60*time.Second)
	for i := range 25 {
		ms, err := parking.Peek(ctx, b.conn, b.plan.ParkingQueue(), 3)
		if err != nil || len(ms) != 3 {
			t.Fatalf("look %d: %v, %v", i, ms, err)
		}
		var ids []string
		for _, m := range ms {
			ids = append(ids, m.Publishing.MessageId)
			if m.Publishing.MessageId == "died" && (m.Queue != b.name || m.Reason != "delivery_limit") {
				t.Errorf("of the dead letter is known %+v", m)
			}
		}
		if slices.Sort(ids); !slices.Equal(ids, []string{"0", "1", "died"}) {
			t.Errorf("look %d: %v", i, ids)
		}
		if n, err := parking.Export(ctx, b.conn, b.plan.ParkingQueue(), new(bytes.Buffer)); err != nil || n != 3 {
			t.Fatalf("look %d: exported %d, %v", i, n, err)
		}
		if two, err := parking.Peek(ctx, b.conn, b.plan.ParkingQueue(), 2); err != nil || len(two) != 2 {
			t.Fatalf("look %d: %v, %v", i, two, err)
		}
	}
	got := kit.Copies(b.parked(3))
	if got["died"] != 1 || got["0"] != 1 || got["1"] != 1 {
		t.Errorf("after 25 looks there are %v", got)
	}
}

func TestAReplayThatIsKilledHalfWayAndRunAgainLosesNone(t *testing.T) {
	const messages, rate = 10_000, 800
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := newRetryBench(t, oneTry, proxy.URL())
	b.park(messages)
	ctx := kit.Within(t, 120*time.Second)
	c := parking.ReplayConfig{Queue: b.plan.ParkingQueue(), Rate: rate}
	start, killed := time.Now(), 0
	first := c
	first.Progress = func(r parking.ReplayResult) {
		if killed == 0 && r.Replayed >= messages/2 {
			killed = proxy.Cut()
		}
	}
	half, err := parking.Replay(ctx, b.conn, b.p, first)
	if err == nil || half.Replayed < messages/2 || half.Replayed == messages || killed == 0 {
		t.Fatalf("Replay = %+v, %v, want an error half way", half, err)
	}
	if took, least := time.Since(start), time.Duration(half.Replayed-100)*time.Second/rate; took < least {
		t.Errorf("%d messages took %v, the rate allows %v", half.Replayed, took, least)
	}
	t.Logf("cut: %+v in %v", half, time.Since(start).Round(time.Millisecond))
	progress := 0
	c.Progress = func(parking.ReplayResult) { progress++ }
	var again parking.ReplayResult
	kit.WaitFor(t, func() bool { return b.ready(c.Queue) >= messages-half.Replayed }) // RabbitMQ has noticed the loss
	start = time.Now()
	again, err = parking.Replay(ctx, b.conn, b.p, c)
	if err != nil || again.Replayed != again.Total || again.Kept != 0 || progress == 0 {
		t.Errorf("again: %+v, %v after %d reports of progress", again, err, progress)
	}
	t.Logf("again: %+v in %v, %d reports", again, time.Since(start).Round(time.Millisecond), progress)
	back := kit.Copies(kit.Take(t, b.name, b.ready(b.name)))
	if len(back) != messages || b.ready(c.Queue) != 0 {
		t.Errorf("%d of %d are back, %d parked", len(back), messages, b.ready(c.Queue))
	}
	twice := 0
	for _, n := range back {
		twice += n - 1
	}
	t.Logf("%d messages back, %d of them twice", len(back), twice)
}

// RabbitMQ closes the channel that holds the messages which stay.
func TestAReplayThatExceedsTheConsumerTimeoutCanBeRunAgain(t *testing.T) {
	t.Parallel()
	b := newRetryBench(t, oneTry, "")
	queue := b.queue(amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": -1, "x-consumer-timeout": 4000})
	const n = 80
	var pending []*amqp.DeferredConfirmation
	for i := range n {
		pending = append(pending, b.send(queue, amqp.Publishing{MessageId: fmt.Sprint(i), Headers: amqp.Table{history.HeaderQueue: b.name, "vip": i%2 == 1}}))
	}
	b.confirm(pending)
	ctx := kit.Within(t, 150*time.Second)
	for runs := 1; ; runs++ {
		r, err := parking.Replay(ctx, b.conn, b.p, parking.ReplayConfig{
			Queue: queue, Rate: 5, Match: func(m parking.Message) bool { return m.Publishing.Headers["vip"] == true },
		})
		t.Logf("run %d: %+v, %v", runs, r, err)
		if err == nil {
			break
		}
		if ctx.Err() != nil || r.Replayed == 0 {
			t.Fatalf("Replay = %+v, %v", r, err)
		}
	}
	if back := kit.Copies(kit.Take(t, b.name, b.ready(b.name))); len(back) != n/2 {
		t.Errorf("%d messages are back, want %d", len(back), n/2)
	}
	kit.WaitFor(t, func() bool { return b.ready(queue) == n/2 })
}

func TestAMessageGoesBackToTheQueueWhereItDiedLast(t *testing.T) {
	a, b := newRetryBench(t, oneTry, ""), newRetryBench(t, oneTry, "")
	a.park(1)
	d := a.parked(1)[0] // and somebody passes it on with all its headers
	b.publish(amqp.Publishing{MessageId: d.MessageId, Headers: d.Headers, Body: d.Body})
	kit.WaitFor(t, func() bool {
		d, ok, err := b.raw.Get(b.name, false)
		if err != nil {
			t.Fatal(err)
		}
		return ok && d.Reject(false) == nil
	})
	kit.WaitFor(t, func() bool { return b.ready(b.plan.ParkingQueue()) == 1 })
	ctx := kit.Within(t, 20*time.Second)
	ms, err := parking.Peek(ctx, b.conn, b.plan.ParkingQueue(), 1)
	if err != nil || len(ms) != 1 || ms[0].Queue != b.name || ms[0].Reason != "rejected" || ms[0].Attempts != 0 {
		t.Errorf("Peek = %+v, %v, want a message that died in %s", ms, err, b.name)
	}
	var file bytes.Buffer
	if n, err := parking.Export(ctx, b.conn, b.plan.ParkingQueue(), &file); n != 1 || err != nil {
		t.Errorf("Export = %d, %v", n, err)
	}
	if n, err := parking.Import(ctx, b.p, b.plan.ParkingQueue(), &file); n != 1 || err != nil {
		t.Errorf("Import = %d, %v", n, err)
	}
	if r, err := parking.Replay(ctx, b.conn, b.p, parking.ReplayConfig{Queue: b.plan.ParkingQueue()}); err != nil || r.Replayed != 2 {
		t.Errorf("Replay = %+v, %v", r, err)
	}
	if here, there := b.ready(b.name), b.ready(a.name); here != 2 || there != 0 {
		t.Errorf("%d went back to where it died, %d to the queue before", here, there)
	}
}

func TestWhatIsExportedAndImportedIsTheSameInEveryByte(t *testing.T) {
	b := newRetryBench(t, oneTry, "")
	queue := b.queue(amqp.Table{"x-queue-type": "quorum"})
	b.confirm([]*amqp.DeferredConfirmation{b.send(queue, amqp.Publishing{
		Headers:     amqp.Table{"raw": "\xff", "bytes": []byte{0, 0xff}, "list": []any{"\xfe", amqp.Table{"é": "\x80"}}, "at": time.Unix(1<<40, 0)},
		ContentType: "\xff", ContentEncoding: "é", CorrelationId: "\x80\x00", MessageId: "\xfe", Type: "\xc3", AppId: "a\xffb", DeliveryMode: amqp.Persistent,
		Priority: 200, Timestamp: time.Date(12_000, 1, 1, 0, 0, 0, 0, time.UTC), Body: []byte{0xff, 0, '\n'},
	})})
	ctx := kit.Within(t, 20*time.Second)
	var file bytes.Buffer
	if n, err := parking.Export(ctx, b.conn, queue, &file); n != 1 || err != nil {
		t.Fatalf("Export = %d, %v", n, err)
	}
	t.Logf("%s", &file)
	get := func() amqp.Delivery {
		d, ok, err := b.raw.Get(queue, true)
		if !ok || err != nil {
			t.Fatalf("nothing is there: %v", err)
		}
		d.Acknowledger, d.Redelivered, d.DeliveryTag = nil, false, 0
		return d
	}
	before := get()
	if n, err := parking.Import(ctx, b.p, queue, &file); n != 1 || err != nil {
		t.Fatalf("Import = %d, %v", n, err)
	}
	after := get()
	for _, count := range []string{"x-acquired-count", "x-delivery-count"} { // of looking at it
		delete(before.Headers, count)
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("imported %+v, want %+v", after, before)
	}
}

func TestReplayKeepsTheOrderOfTheQueue(t *testing.T) {
	const n = 3000
	b := newRetryBench(t, oneTry, "")
	b.park(n)
	start := time.Now()
	r, err := parking.Replay(kit.Within(t, 60*time.Second), b.conn, b.p, parking.ReplayConfig{Queue: b.plan.ParkingQueue()})
	if err != nil || r.Replayed != n {
		t.Fatalf("Replay = %+v, %v", r, err)
	}
	t.Logf("%d messages in %v", n, time.Since(start).Round(time.Millisecond))
	for i, d := range kit.Take(t, b.name, n) {
		if d.MessageId != fmt.Sprint(i) {
			t.Fatalf("at %d comes %s", i, d.MessageId)
		}
	}
}

type writerFunc func()

func (f writerFunc) Write(b []byte) (int, error) { f(); return len(b), nil }

// Package parking's own test holds it to 250 ms, on a clock that a busy machine does not delay.
func TestWhatLooksIntoAQueueReturnsInTimeOnAStalledConnection(t *testing.T) {
	const deadline = time.Second
	for name, look := range map[string]func(ctx context.Context, b *retryBench, stall func()) error{
		"Replay": func(ctx context.Context, b *retryBench, stall func()) error {
			_, err := parking.Replay(ctx, b.conn, b.p, parking.ReplayConfig{Queue: b.plan.ParkingQueue(), Progress: func(parking.ReplayResult) { stall() }})
			return err
		},
		"Replay that chooses": func(ctx context.Context, b *retryBench, stall func()) error {
			_, err := parking.Replay(ctx, b.conn, b.p, parking.ReplayConfig{Queue: b.plan.ParkingQueue(), Match: func(parking.Message) bool { stall(); return false }})
			return cmp.Or(err, ctx.Err()) // nil is true too: every message stays
		},
		"Export": func(ctx context.Context, b *retryBench, stall func()) error {
			_, err := parking.Export(ctx, b.conn, b.plan.ParkingQueue(), writerFunc(stall))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
			b := newRetryBench(t, oneTry, proxy.URL())
			b.park(50) // which are taken before it is stalled
			t.Cleanup(proxy.Clear)
			start := time.Now()
			err := look(kit.Within(t, deadline), b, func() { proxy.Blackhole(amqptest.BothDirections) })
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > deadline+time.Second {
				t.Errorf("%s = %v after %v, want the end of its ctx", name, err, took)
			}
		})
	}
}

package integration

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

var oneTry = retry.Config{Policy: retry.Schedule(100 * ms).MaxAttempts(1), Source: &topology.Queue{DeliveryLimit: new(2)}}

// park publishes n messages straight into the parking queue, as Import does.
func (b *retryBench) park(n int) {
	b.t.Helper()
	var pending []*amqp.DeferredConfirmation
	for i := range n {
		c, err := b.raw.PublishWithDeferredConfirm("", b.plan.ParkingQueue(), true, false, amqp.Publishing{
			MessageId: fmt.Sprint(i), DeliveryMode: amqp.Persistent, Body: make([]byte, 100),
			Headers: amqp.Table{retry.HeaderQueue: b.name, retry.HeaderExchange: "", retry.HeaderKey: b.name, retry.HeaderAttempts: int64(1)},
		})
		if err != nil {
			b.t.Fatal(err)
		}
		pending = append(pending, c)
	}
	for _, c := range pending {
		if ok, err := c.WaitContext(within(b.t, 60*time.Second)); !ok {
			b.t.Fatalf("publish: %v, %v", ok, err)
		}
	}
}

func TestS36TwentyFivePeeksLeaveAMessageParkedAlsoOneThatDiedOfTheDeliveryLimit(t *testing.T) {
	b := newRetryBench(t, oneTry, "")
	b.publish(amqp.Publishing{MessageId: "died"})
	for range 3 { // the limit, and one more
		waitFor(t, func() bool {
			d, ok, err := b.raw.Get(b.name, false)
			if err != nil {
				t.Fatal(err)
			}
			return ok && d.Reject(true) == nil
		})
	}
	waitFor(t, func() bool { return b.ready(b.plan.ParkingQueue()) == 1 })
	b.park(2)
	ctx := within(t, 60*time.Second)
	for i := range 25 {
		ms, err := retry.Peek(ctx, b.conn, b.plan.ParkingQueue(), 3)
		if err != nil || len(ms) != 3 {
			t.Fatalf("look %d: %v, %v", i, ms, err)
		}
		var ids []string
		for _, m := range ms {
			ids = append(ids, m.Message.MessageId)
			if m.Message.MessageId == "died" && (m.Queue != b.name || m.Why != "delivery_limit") {
				t.Errorf("of the dead letter is known %+v", m)
			}
		}
		if slices.Sort(ids); !slices.Equal(ids, []string{"0", "1", "died"}) {
			t.Errorf("look %d: %v", i, ids)
		}
		if n, err := retry.Export(ctx, b.conn, b.plan.ParkingQueue(), new(bytes.Buffer)); err != nil || n != 3 {
			t.Fatalf("look %d: exported %d, %v", i, n, err)
		}
		if two, err := retry.Peek(ctx, b.conn, b.plan.ParkingQueue(), 2); err != nil || len(two) != 2 {
			t.Fatalf("look %d: %v, %v", i, two, err)
		}
	}
	got := copies(b.parked(3))
	if got["died"] != 1 || got["0"] != 1 || got["1"] != 1 {
		t.Errorf("after 25 looks there are %v", got)
	}
}

func TestAReplayThatIsKilledHalfWayAndRunAgainLosesNone(t *testing.T) {
	const messages, rate = 10_000, 800
	proxy := amqptest.StartProxy(t, broker(t).URL())
	b := newRetryBench(t, oneTry, proxy.URL())
	b.park(messages)
	ctx := within(t, 120*time.Second)
	c := retry.ReplayConfig{Queue: b.plan.ParkingQueue(), Rate: rate}
	start, killed := time.Now(), 0
	first := c
	first.Progress = func(r retry.ReplayResult) {
		if killed == 0 && r.Replayed >= messages/2 {
			killed = proxy.Cut()
		}
	}
	half, err := retry.Replay(ctx, b.conn, b.p, first)
	if err == nil || half.Replayed < messages/2 || half.Replayed == messages || killed == 0 {
		t.Fatalf("Replay = %+v, %v, want an error half way", half, err)
	}
	if took, least := time.Since(start), time.Duration(half.Replayed-100)*time.Second/rate; took < least {
		t.Errorf("%d messages took %v, the rate allows %v", half.Replayed, took, least)
	}
	t.Logf("cut: %+v in %v", half, time.Since(start).Round(ms))
	progress := 0
	c.Progress = func(retry.ReplayResult) { progress++ }
	var again retry.ReplayResult
	waitFor(t, func() bool { return b.ready(c.Queue) >= messages-half.Replayed }) // RabbitMQ has noticed the loss
	start = time.Now()
	again, err = retry.Replay(ctx, b.conn, b.p, c)
	if err != nil || again.Replayed != again.Total || again.Kept != 0 || progress == 0 {
		t.Errorf("again: %+v, %v after %d reports of progress", again, err, progress)
	}
	t.Logf("again: %+v in %v, %d reports", again, time.Since(start).Round(ms), progress)
	back := copies(take(t, b.name, b.ready(b.name)))
	if len(back) != messages || b.ready(c.Queue) != 0 {
		t.Errorf("%d of %d are back, %d parked", len(back), messages, b.ready(c.Queue))
	}
	twice := 0
	for _, n := range back {
		twice += n - 1
	}
	t.Logf("%d messages back, %d of them twice", len(back), twice)
}

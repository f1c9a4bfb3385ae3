package publishing

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestS21PublishReturnsAtTheEndOfItsCtxAndKeepsTheSlot(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	var sent atomic.Int64
	proxy.Observe(func(e amqptest.Event) {
		if e.Kind == amqptest.Published {
			sent.Add(1)
		}
	})
	p := kit.NewProducer(t, conn, producer.Config{MaxInFlight: 1})
	ctx := kit.Within(t, 10*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	publish := func(when string, want, cause error) {
		t.Helper()
		short, ago := endsIn(t, 50*time.Millisecond)
		err := p.Publish(short, "", queue, amqp.Publishing{})
		if took := ago(); !errors.Is(err, want) || !errors.Is(err, cause) || took > kit.Soon {
			t.Errorf("%s: %v, %v after the end of ctx, want %v", when, err, took, want)
		}
	}
	proxy.HoldConfirms()
	publish("awaiting the confirm", producer.ErrUnconfirmed, context.DeadlineExceeded)
	for range 3 { // the first one still takes the only place
		publish("waiting for room", producer.ErrNotPublished, context.DeadlineExceeded)
	}
	proxy.ReleaseConfirms()
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Errorf("after the late confirm: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Publish(over, "", queue, amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, context.Canceled) {
		t.Errorf("with a ctx that has ended: %v, want ErrNotPublished", err)
	}
	if stored := kit.Purged(t, queue); stored != 3 || sent.Load() != 3 {
		t.Errorf("%d messages were sent and %d stored, want 3: two confirmed and one of unknown outcome", sent.Load(), stored)
	}

	down, err := amqpkit.Open(amqpkit.Config{URLs: []string{"amqp://127.0.0.1:1"}, Logger: kit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = down.Close(t.Context()) }()
	p = kit.NewProducer(t, down, producer.Config{})
	publish("without a broker", producer.ErrNotPublished, context.DeadlineExceeded)
}

// A link that takes nothing more blocks amqp091-go in the middle of a message.
func TestS21PublishReturnsAtTheEndOfItsCtxWhileTheLinkTakesNothing(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 30*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	session, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	proxy.Pause(amqptest.FromClient)
	body := make([]byte, 12<<20) // more than the socket's buffers take
	var unconfirmed, notPublished int
	for range 4 {
		short, ago := endsIn(t, 200*time.Millisecond)
		err := p.Publish(short, "", queue, amqp.Publishing{Body: body})
		if took := ago(); took > kit.Soon {
			t.Errorf("Publish returned %v after the end of ctx", took)
		}
		switch {
		case errors.Is(err, producer.ErrUnconfirmed):
			unconfirmed++
		case errors.Is(err, producer.ErrNotPublished):
			notPublished++
		default:
			t.Errorf("Publish = %v", err)
		}
	}
	if unconfirmed != 1 || notPublished != 3 {
		t.Errorf("%d unconfirmed and %d not published, want the one that is stuck and the three behind it", unconfirmed, notPublished)
	}
	proxy.Clear()
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Errorf("when the link takes something again: %v", err)
	}
	if stored := kit.Purged(t, queue); stored != 3 {
		t.Errorf("the queue holds %d messages, want 3: the ones not published are not there", stored)
	}
	if after, err := conn.PublishConnection(ctx); after != session || err != nil {
		t.Errorf("the session was lost over it (%v)", err)
	}
}

// amqp091-go's reader waits up to five seconds for a listener that is full, and then drops what it had to tell.
func TestS22OutcomesThatNobodyTakesUpStallNobody(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	conn := kit.Connect(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{MaxInFlight: 100})
	ctx := kit.Within(t, 60*time.Second)
	ac, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	slowest := time.Duration(0)
	receipts := make([]*producer.Receipt, 5000)
	for i := range receipts {
		key := queue
		if i%2 == 1 {
			key = "nobody"
		}
		if receipts[i], err = p.PublishAsync(ctx, "", key, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		if i%500 == 0 { // somebody else on the same connection, read by the same reader
			asked := time.Now()
			if _, err := ch.QueueDeclarePassive(queue, false, false, false, false, nil); err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, time.Since(asked))
		}
	}
	if slowest > time.Second {
		t.Errorf("an answer to somebody else took %v", slowest)
	}
	t.Logf("answers to somebody else took %v at most", slowest)
	for i, r := range receipts {
		var returned *producer.ReturnedError
		if err := r.Wait(ctx); i%2 == 0 && err != nil || i%2 == 1 && !errors.As(err, &returned) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

func TestS25MessagesArePersistentAndHaveAnIDAndNoHeader(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{})
	ctx := kit.Within(t, 10*time.Second)
	for i := range 2 {
		if err := p.Publish(ctx, "", queue, amqp.Publishing{Body: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Publish(ctx, "", queue, amqp.Publishing{MessageId: "mine", DeliveryMode: amqp.Transient}); err != nil {
		t.Fatal(err)
	}
	got := kit.Take(t, queue, 3)
	for _, d := range got[:2] {
		if d.DeliveryMode != amqp.Persistent || len(d.MessageId) < 20 || d.Headers != nil {
			t.Errorf("got mode %d, id %q, headers %v", d.DeliveryMode, d.MessageId, d.Headers)
		}
	}
	if got[0].MessageId == got[1].MessageId {
		t.Errorf("two messages have the id %q", got[0].MessageId)
	}
	if got[2].MessageId != "mine" || got[2].DeliveryMode != amqp.Transient {
		t.Errorf("a caller's own id and mode became %q and %d", got[2].MessageId, got[2].DeliveryMode)
	}
}

// RabbitMQ closes the whole connection over the immediate flag.
func TestS26ImmediateIsNeverAskedFor(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	var flags []byte // of every basic.publish; CutAt calls its match by one goroutine at a time
	proxy.CutAt(amqptest.FromClient, amqptest.BeforeFrame, func(f amqptest.Frame) bool {
		if amqptest.IsMethod(60, 40)(f) {
			flags = append(flags, f.Payload[len(f.Payload)-1])
		}
		return false
	})
	const mandatory = 1 // the lowest bit; immediate is the next
	ctx := kit.Within(t, 10*time.Second)
	for _, allow := range []bool{false, true} {
		p := kit.NewProducer(t, conn, producer.Config{AllowUnroutable: allow})
		r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Wait(ctx), p.Publish(ctx, "", queue, amqp.Publishing{}),
			errors.Join(p.PublishAll(ctx, []producer.Message{{Key: queue}})...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := proxy.Close(); err != nil { // its goroutines are done with flags
		t.Fatal(err)
	}
	if want := string([]byte{mandatory, mandatory, mandatory, 0, 0, 0}); string(flags) != want {
		t.Errorf("the flags of basic.publish were %v, want %v", flags, []byte(want))
	}
}

package publishing

import (
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

// unanswered publishes n messages whose confirms are thrown away, and returns their receipts and the last one's
// event on the wire.
func unanswered(t *testing.T, proxy *amqptest.Proxy, p *producer.Producer, queue string, n int) ([]*producer.Receipt, amqptest.Event) {
	t.Helper()
	ctx := kit.Within(t, 20*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil { // the session is there
		t.Fatal(err)
	}
	var last amqptest.Event
	answered := map[uint64]bool{} // by tag; the warm-up had the first
	all := make(chan struct{})
	proxy.Observe(func(e amqptest.Event) {
		if e.Kind != amqptest.ConfirmHeld || len(answered) == n {
			return
		}
		for tag := e.Tag; tag > 1 && (tag == e.Tag || e.Multiple); tag-- {
			answered[tag] = true
		}
		if e.Tag > last.Tag {
			last = e
		}
		if len(answered) == n {
			close(all)
		}
	})
	proxy.DropConfirms(true)
	receipts := make([]*producer.Receipt, n)
	for i := range receipts {
		var err error
		if receipts[i], err = p.PublishAsync(ctx, "", queue, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-all:
	case <-ctx.Done():
		t.Fatal("the broker has not confirmed them")
	}
	proxy.Observe(nil)
	proxy.DropConfirms(false)
	return receipts, last
}

func TestOneAnswerWithMultipleSettlesAllUpToItsTag(t *testing.T) {
	const n = 10
	for name, c := range map[string]struct {
		answer func(last amqptest.Event) amqptest.Frame // to all but the last
		want   error
	}{
		"ack":  {func(e amqptest.Event) amqptest.Frame { return amqptest.BasicAck(e.Channel, e.Tag-1, true) }, nil},
		"nack": {func(e amqptest.Event) amqptest.Frame { return amqptest.BasicNack(e.Channel, e.Tag-1, true, false) }, producer.ErrNacked},
	} {
		t.Run(name, func(t *testing.T) {
			queue := kit.QuorumQueue(t, nil)
			proxy, conn := kit.Through(t, amqpkit.Config{})
			p := kit.NewProducer(t, conn, producer.Config{})
			receipts, last := unanswered(t, proxy, p, queue, n)
			var again atomic.Int64
			proxy.Observe(func(e amqptest.Event) {
				if e.Kind == amqptest.Published {
					again.Add(1)
				}
			})
			ctx := kit.Within(t, 10*time.Second)
			proxy.Inject(amqptest.FromBroker, c.answer(last))
			for i, r := range receipts[:n-1] {
				if err := r.Wait(ctx); !errors.Is(err, c.want) {
					t.Errorf("message %d: %v, want %v", i, err, c.want)
				}
			}
			select {
			case <-receipts[n-1].Done():
				t.Error("the one behind the tag has an outcome too")
			default:
			}
			proxy.Inject(amqptest.FromBroker, amqptest.BasicAck(last.Channel, last.Tag, false))
			if err := receipts[n-1].Wait(ctx); err != nil {
				t.Errorf("the last one: %v", err)
			}
			if again.Load() != 0 {
				t.Errorf("%d messages were sent again", again.Load())
			}
		})
	}
}

// The broker had decided when it returned the message.
func TestReturnCountsAlsoWithoutItsAck(t *testing.T) {
	for name, noResend := range map[string]bool{"sent again": false, "at most once": true} {
		t.Run(name, func(t *testing.T) {
			queue := kit.QuorumQueue(t, nil)
			proxy, conn := kit.Through(t, amqpkit.Config{})
			p := kit.NewProducer(t, conn, producer.Config{NoResend: noResend})
			ctx := kit.Within(t, 10*time.Second)
			if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
				t.Fatal(err)
			}
			proxy.CutAt(amqptest.FromBroker, amqptest.BeforeFrame, amqptest.IsConfirm)
			var returned *producer.ReturnedError
			if err := p.Publish(ctx, "", "nobody", amqp.Publishing{}); !errors.As(err, &returned) || producer.MaybeDelivered(err) {
				t.Errorf("Publish = %v, want *ReturnedError", err)
			}
		})
	}
}

func TestMistakeOnAnotherChannelCostsNoMessage(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	var sent atomic.Int64
	p := kit.NewProducer(t, conn, producer.Config{NoResend: true})
	receipts, last := unanswered(t, proxy, p, queue, 10)
	proxy.Observe(func(e amqptest.Event) {
		if e.Kind == amqptest.Published {
			sent.Add(1)
		}
	})
	ctx := kit.Within(t, 10*time.Second)
	ac, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclarePassive(kit.Unique("nowhere"), false, false, false, false, nil); kit.ReplyCode(err) != amqp.NotFound || !ch.IsClosed() {
		t.Fatalf("the mistake: %v, want 404 and the channel's end", err)
	}
	proxy.Inject(amqptest.FromBroker, amqptest.BasicAck(last.Channel, last.Tag, true))
	for i, r := range receipts {
		if err := r.Wait(ctx); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil || sent.Load() != 1 {
		t.Errorf("Publish = %v, %d sent, want nil and one", err, sent.Load())
	}
	if after, err := conn.PublishConnection(ctx); after != ac || err != nil {
		t.Errorf("the session was lost over it (%v)", err)
	}
}

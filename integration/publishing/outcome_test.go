package publishing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// endsIn is a ctx of d, and tells how long ago it ended.
func endsIn(t *testing.T, d time.Duration) (ctx context.Context, ago func() time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	ctx, cancel := context.WithDeadline(t.Context(), end)
	t.Cleanup(cancel)
	return ctx, func() time.Duration { return time.Since(end) }
}

func TestS17StoredButAckLostIsUnconfirmed(t *testing.T) {
	for name, lose := range map[string]func(*amqptest.Proxy){
		"cut at the ack": func(proxy *amqptest.Proxy) {
			proxy.CutAt(amqptest.FromBroker, amqptest.BeforeFrame, amqptest.IsConfirm)
		},
		"ack swallowed, then cut": func(proxy *amqptest.Proxy) {
			proxy.DropConfirms(true)
			proxy.Observe(func(e amqptest.Event) {
				if e.Kind == amqptest.ConfirmHeld {
					proxy.DropConfirms(false)
					proxy.Cut()
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			queue := kit.QuorumQueue(t, nil)
			proxy, conn := kit.Through(t, amqpkit.Config{})
			p := kit.NewProducer(t, conn, producer.Config{NoResend: true})
			ctx := kit.Within(t, 10*time.Second)
			if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
				t.Fatal(err)
			}
			lose(proxy)
			start := time.Now()
			err := p.Publish(ctx, "", queue, amqp.Publishing{})
			if !errors.Is(err, producer.ErrUnconfirmed) || errors.Is(err, producer.ErrNacked) || !producer.MaybeDelivered(err) {
				t.Errorf("Publish = %v, want ErrUnconfirmed", err)
			}
			t.Logf("told after %v", time.Since(start))
			if n := kit.Purged(t, queue); n != 2 {
				t.Errorf("the queue holds %d messages, want 2: it was stored, and nothing was sent again", n)
			}
		})
	}
}

// A queue beside the one that refused has the message all the same, as the documentation of ErrNacked says.
func TestS18RefusedMessageIsErrNackedAndTheChannelGoesOn(t *testing.T) {
	full := kit.QuorumQueue(t, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	beside := kit.QuorumQueue(t, nil)
	exchange := kit.Unique("fanout")
	ch := kit.RawChannel(t)
	if err := ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kit.RawChannel(t).ExchangeDelete(exchange, false, false) })
	for _, queue := range []string{full, beside} {
		if err := ch.QueueBind(queue, "", exchange, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	proxy, conn := kit.Through(t, amqpkit.Config{})
	var sent, opened atomic.Int64
	proxy.Observe(func(e amqptest.Event) {
		switch e.Kind {
		case amqptest.Published:
			sent.Add(1)
		case amqptest.ChannelOpened:
			opened.Add(1)
		}
	})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 20*time.Second)
	nacked := 0
	for range 20 { // the limit is a soft one
		err := p.Publish(ctx, exchange, "", amqp.Publishing{})
		if err == nil {
			continue
		}
		if !errors.Is(err, producer.ErrNacked) || producer.MaybeDelivered(err) || !strings.Contains(err.Error(), exchange) {
			t.Fatalf("got %v, want ErrNacked that names the exchange", err)
		}
		nacked++
	}
	if stored := kit.Purged(t, full); nacked == 0 || stored != 20-nacked || sent.Load() != 20 {
		t.Errorf("%d nacked, %d stored, %d sent of 20: a refused message is reported, not sent again", nacked, stored, sent.Load())
	}
	if stored := kit.Purged(t, beside); stored != 20 {
		t.Errorf("the queue beside holds %d messages, want 20", stored)
	}
	if n := opened.Load(); n != 2 { // the producer's, and one to look for the exchange
		t.Errorf("%d channels were opened, want 2: a nack costs none", n)
	}
	t.Logf("%d of 20 were refused", nacked)
}

// amqp091-go gives a return that nobody takes up for lost after five seconds, in which it reads nothing.
func TestS19EveryReturnIsToldAndNothingElse(t *testing.T) {
	const n, batch = 100_000, 500
	queue := kit.Unique(t.Name())
	kit.Declare(t, kit.Broker(t), queue, "classic")
	conn := kit.Connect(t, amqpkit.Config{Heartbeat: 2 * time.Second})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 2*time.Minute)
	before, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	var missed, invented atomic.Int64
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for first := g * batch; first < n; first += 4 * batch {
				msgs := make([]producer.Message, batch)
				for i := range msgs {
					msgs[i] = producer.Message{Key: queue, Publishing: amqp.Publishing{DeliveryMode: amqp.Transient}}
					if i%2 == 1 {
						msgs[i].Key = "nobody"
					}
					if i%4 < 2 { // a caller's own ids are matched otherwise
						msgs[i].Publishing.MessageId = fmt.Sprint(first + i)
					}
				}
				for i, err := range p.PublishAll(ctx, msgs) {
					var returned *producer.ReturnedError
					switch {
					case i%2 == 0 && err != nil:
						invented.Add(1)
						t.Errorf("routable message: %v", err)
					case i%2 == 1 && (!errors.As(err, &returned) || returned.Code != 312 || returned.Text != "NO_ROUTE" || returned.Key != "nobody" || producer.MaybeDelivered(err)):
						missed.Add(1)
						t.Errorf("unroutable message: %v, want *ReturnedError", err)
					}
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d messages, every second unroutable, in %v: %d returns missed, %d invented", n, time.Since(start), missed.Load(), invented.Load())
	if after, err := conn.PublishConnection(ctx); after != before || err != nil {
		t.Errorf("the session was lost on the way (%v)", err)
	}
	if stored := kit.Purged(t, queue); stored != n/2 {
		t.Errorf("the queue holds %d messages, want %d", stored, n/2)
	}
	if err := kit.NewProducer(t, conn, producer.Config{AllowUnroutable: true}).Publish(ctx, "", "nobody", amqp.Publishing{}); err != nil {
		t.Errorf("with AllowUnroutable: %v", err)
	}
}

func TestS20ExchangeThatVanishesFailsOnlyItsOwnMessages(t *testing.T) {
	for name, noResend := range map[string]bool{"sent again": false, "at most once": true} {
		t.Run(name, func(t *testing.T) {
			queue := kit.QuorumQueue(t, nil)
			ch := kit.RawChannel(t)
			exchange := kit.Unique("vanishing")
			conn := kit.Connect(t, amqpkit.Config{})
			p := kit.NewProducer(t, conn, producer.Config{NoResend: noResend})
			ctx := kit.Within(t, 20*time.Second)
			session, err := conn.PublishConnection(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for round := range 5 {
				if err := ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil); err != nil {
					t.Fatal(err)
				}
				if err := ch.QueueBind(queue, "", exchange, false, nil); err != nil {
					t.Fatal(err)
				}
				if err := p.Publish(ctx, exchange, "", amqp.Publishing{}); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if err := ch.ExchangeDelete(exchange, false, false); err != nil {
					t.Fatal(err)
				}
				msgs := make([]producer.Message, 50)
				for i := range msgs {
					msgs[i].Key = queue
				}
				msgs[25] = producer.Message{Exchange: exchange}
				for i, err := range p.PublishAll(ctx, msgs) {
					unknown := errors.Is(err, producer.ErrUnconfirmed) && kit.ReplyCode(err) == amqp.NotFound
					switch {
					case i == 25 && (!errors.Is(err, producer.ErrNotPublished) || kit.ReplyCode(err) != amqp.NotFound):
						t.Errorf("message to the deleted exchange: %v, want ErrNotPublished for the 404: it is the only one", err)
					case i != 25 && err != nil && (!noResend || !unknown):
						t.Errorf("message %d to another: %v", i, err)
					}
				}
				err := p.Publish(ctx, exchange, "", amqp.Publishing{})
				if !errors.Is(err, producer.ErrNotPublished) || kit.ReplyCode(err) != amqp.NotFound {
					t.Errorf("the next message to it: %v, want ErrNotPublished for the 404", err)
				}
			}
			if after, err := conn.PublishConnection(ctx); after != session || err != nil {
				t.Errorf("the connection was lost over it (%v)", err)
			}
		})
	}
}

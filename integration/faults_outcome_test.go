package integration

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
	"github.com/amqpkit/amqpkit/producer"
)

// through returns a proxy in front of the shared broker, and a Conn over it.
func through(t *testing.T, cfg amqpkit.Config) (*amqptest.Proxy, *amqpkit.Conn) {
	t.Helper()
	proxy := amqptest.StartProxy(t, broker(t).URL())
	cfg.URLs = []string{proxy.URL()}
	return proxy, connect(t, cfg)
}

// kind matches the events of a kind, for Proxy.Next.
func kind(k amqptest.Kind) func(amqptest.Event) bool {
	return func(e amqptest.Event) bool { return e.Kind == k }
}

// endsIn is a ctx of d, and tells how long ago it ended.
func endsIn(t *testing.T, d time.Duration) (ctx context.Context, ago func() time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	ctx, cancel := context.WithDeadline(t.Context(), end)
	t.Cleanup(cancel)
	return ctx, func() time.Duration { return time.Since(end) }
}

// purged empties a queue and returns how many messages it held: a passive declaration's count lags.
func purged(t *testing.T, queue string) int {
	t.Helper()
	n, err := rawChannel(t).QueuePurge(queue, false)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// drained empties a queue and returns what it held, in order.
func drained(t *testing.T, ch *amqp.Channel, queue string) []amqp.Delivery {
	t.Helper()
	var all []amqp.Delivery
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, d)
	}
}

// copies counts messages by their ids.
func copies(ds []amqp.Delivery) map[string]int {
	n := map[string]int{}
	for _, d := range ds {
		n[d.MessageId]++
	}
	return n
}

// soon is how long a call may outlast its ctx.
const soon = 250 * time.Millisecond

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
			queue := quorumQueue(t, nil)
			proxy, conn := through(t, amqpkit.Config{})
			p := newProducer(t, conn, producer.Config{NoResend: true})
			ctx := within(t, 10*time.Second)
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
			if n := purged(t, queue); n != 2 {
				t.Errorf("the queue holds %d messages, want 2: it was stored, and nothing was sent again", n)
			}
		})
	}
}

// A queue beside the one that refused has the message all the same, as the documentation of ErrNacked says.
func TestS18RefusedMessageIsErrNackedAndTheChannelGoesOn(t *testing.T) {
	full := quorumQueue(t, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	beside := quorumQueue(t, nil)
	exchange := unique("fanout")
	ch := rawChannel(t)
	if err := ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rawChannel(t).ExchangeDelete(exchange, false, false) })
	for _, queue := range []string{full, beside} {
		if err := ch.QueueBind(queue, "", exchange, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	proxy, conn := through(t, amqpkit.Config{})
	var sent, opened atomic.Int64
	proxy.Observe(func(e amqptest.Event) {
		switch e.Kind {
		case amqptest.Published:
			sent.Add(1)
		case amqptest.ChannelOpened:
			opened.Add(1)
		}
	})
	p := newProducer(t, conn, producer.Config{})
	ctx := within(t, 20*time.Second)
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
	if stored := purged(t, full); nacked == 0 || stored != 20-nacked || sent.Load() != 20 {
		t.Errorf("%d nacked, %d stored, %d sent of 20: a refused message is reported, not sent again", nacked, stored, sent.Load())
	}
	if stored := purged(t, beside); stored != 20 {
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
	queue := unique(t.Name())
	declare(t, broker(t), queue, "classic")
	conn := connect(t, amqpkit.Config{Heartbeat: 2 * time.Second})
	p := newProducer(t, conn, producer.Config{})
	ctx := within(t, 2*time.Minute)
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
	if stored := purged(t, queue); stored != n/2 {
		t.Errorf("the queue holds %d messages, want %d", stored, n/2)
	}
	if err := newProducer(t, conn, producer.Config{AllowUnroutable: true}).Publish(ctx, "", "nobody", amqp.Publishing{}); err != nil {
		t.Errorf("with AllowUnroutable: %v", err)
	}
}

func TestS20ExchangeThatVanishesFailsOnlyItsOwnMessages(t *testing.T) {
	for name, noResend := range map[string]bool{"sent again": false, "at most once": true} {
		t.Run(name, func(t *testing.T) {
			queue := quorumQueue(t, nil)
			ch := rawChannel(t)
			exchange := unique("vanishing")
			conn := connect(t, amqpkit.Config{})
			p := newProducer(t, conn, producer.Config{NoResend: noResend})
			ctx := within(t, 20*time.Second)
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
					unknown := errors.Is(err, producer.ErrUnconfirmed) && amqpCode(err) == amqp.NotFound
					switch {
					case i == 25 && (!errors.Is(err, producer.ErrNotPublished) || amqpCode(err) != amqp.NotFound):
						t.Errorf("message to the deleted exchange: %v, want ErrNotPublished for the 404: it is the only one", err)
					case i != 25 && err != nil && (!noResend || !unknown):
						t.Errorf("message %d to another: %v", i, err)
					}
				}
				err := p.Publish(ctx, exchange, "", amqp.Publishing{})
				if !errors.Is(err, producer.ErrNotPublished) || amqpCode(err) != amqp.NotFound {
					t.Errorf("the next message to it: %v, want ErrNotPublished for the 404", err)
				}
			}
			if after, err := conn.PublishConnection(ctx); after != session || err != nil {
				t.Errorf("the connection was lost over it (%v)", err)
			}
		})
	}
}

// amqpCode returns the reply code in err, or 0.
func amqpCode(err error) int {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

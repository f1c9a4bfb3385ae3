package consuming

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// headersThatFillAFrame leave no room for the one header that RabbitMQ 4.0 adds at a redelivery.
func headersThatFillAFrame() amqp.Table { return amqp.Table{"x": strings.Repeat("x", 131_010)} }

// publishHeaders publishes a message of the id "poison".
func publishHeaders(b *kit.ConsumerBench, queue string, headers amqp.Table) {
	b.T.Helper()
	c, err := b.Plain.PublishWithDeferredConfirm("", queue, true, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: "poison", Headers: headers})
	if err != nil {
		b.T.Fatal(err)
	}
	if ok, err := c.WaitContext(b.Ctx()); !ok {
		b.T.Fatalf("publish: confirmed %v, %v", ok, err)
	}
}

// A plainConn is a Connection of amqp091-go alone, which cannot read such headers. It has no other one to offer.
type plainConn struct {
	url string

	mu    sync.Mutex
	ac    *amqp.Connection
	dials int
}

func newPlainConn(b *kit.ConsumerBench) *plainConn {
	c := &plainConn{url: b.Broker.URL()}
	b.T.Cleanup(func() {
		if c.ac != nil {
			_ = c.ac.Close()
		}
	})
	return c
}

func (c *plainConn) ConsumeConnection(context.Context) (*amqp.Connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ac != nil && !c.ac.IsClosed() {
		return c.ac, nil
	}
	var err error
	c.dials++
	c.ac, err = amqp.Dial(c.url)
	return c.ac, err
}

func (c *plainConn) dialled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dials
}

func TestS55PoisonHeadersAreDeadLetteredAndTakeNoOtherMessageAlong(t *testing.T) {
	kit.NeedsControl(t)
	const limit = 6
	for name, headers := range map[string]amqp.Table{
		"nested": kit.NestedHeaders(), "many": kit.ManyHeaders(), "fill a frame": headersThatFillAFrame(),
	} {
		t.Run(name, func(t *testing.T) {
			b := kit.NewConsumerBench(t)
			dead := b.Queue(amqp.Table{"x-delivery-limit": 100})
			queue := b.Queue(amqp.Table{
				"x-delivery-limit": limit, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
			})
			publishHeaders(b, queue, headers)
			b.Publish(queue, kit.Numbers(5)...)
			var log kit.Logbook
			got := make(chan *consumer.Delivery, 100)
			r := b.Begin(consumer.Config{Queue: queue, Workers: 5, Prefetch: 10, HasDeadLetterExchange: true, Logger: log.Logger()},
				func(_ context.Context, d *consumer.Delivery) error {
					if d.MessageId == "poison" {
						return errors.New("it comes back too large for a frame")
					}
					got <- d
					return nil
				})
			missing := map[string]bool{}
			for _, n := range kit.Numbers(5) {
				missing[n] = true
			}
			for len(missing) > 0 {
				d := kit.Receive(t, got, "message")
				delete(missing, d.MessageId)
				if n, _ := d.Headers["x-delivery-count"].(int64); n > 4 {
					t.Errorf("message %s was counted as failed %d times along with the poison", d.MessageId, n)
				}
			}
			if err := b.Broker.AwaitQueue(b.Ctx(), dead, func(c rabbit.Counts) bool { return c.Ready > 0 }); err != nil {
				t.Fatal(err)
			}
			kit.WaitFor(t, func() bool { return r.Err() == nil })
			r.StopClean()
			b.ExpectLeft(queue, 0)
			b.ExpectLeft(dead, 1)
			if log.Count("cannot be read") == 0 {
				t.Error("nobody was told of the poison")
			}
		})
	}
}

func TestS55PoisonHeadersWithoutALimitMakeNoHotLoopAndEndWithTheirRemoval(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Name()
	b.Declare(queue, "classic", nil)
	publishHeaders(b, queue, kit.NestedHeaders())
	got := make(chan string, 10)
	conn := newPlainConn(b)
	r := b.BeginOver(conn, consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		got <- d.MessageId
		return nil
	})
	var poison *consumer.PoisonError
	kit.WaitFor(t, func() bool { return errors.As(r.Err(), &poison) && poison.Attempts >= 10 })
	var cause *amqp.Error
	if poison.Queue != queue || !errors.As(poison, &cause) || cause.Server {
		t.Errorf("Err = %#v, want amqp091-go's own error", poison)
	}
	seen := conn.dialled()
	<-time.After(5 * time.Second) // not waiting for anything: the time in which to count
	if n := conn.dialled() - seen; n > 20 {
		t.Errorf("%d more connections in 5 s, want a handful", n)
	}
	if !errors.As(r.Err(), &poison) {
		t.Errorf("Err = %v with the poison still there", r.Err())
	}
	kit.WaitFor(t, func() bool {
		n, err := b.Plain.QueuePurge(queue, false) // of ready messages, so between two attempts
		return err == nil && n == 1
	})
	b.Publish(queue, "after")
	if m := kit.Receive(t, got, "message"); m != "after" {
		t.Errorf("got %s, want after", m)
	}
	kit.WaitFor(t, func() bool { return r.Err() == nil })
	r.StopClean()
	b.ExpectLeft(queue, 0)
}

func TestS55ANeighbourOfAPoisonedQueueGoesOnConsuming(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue, other := b.Name(), b.Queue(amqp.Table{"x-delivery-limit": 1000})
	b.Declare(queue, "classic", nil)
	got := make(chan string, 10_000)
	conn := newPlainConn(b)
	neighbour := b.BeginOver(conn, consumer.Config{Queue: other}, func(_ context.Context, d *consumer.Delivery) error {
		got <- d.MessageId
		return nil
	})
	publishHeaders(b, queue, kit.NestedHeaders())
	poisoned := b.BeginOver(conn, consumer.Config{Queue: queue}, func(context.Context, *consumer.Delivery) error { return nil })
	var poison *consumer.PoisonError
	var worst time.Duration
	for i := 0; !errors.As(poisoned.Err(), &poison) || poison.Attempts < 5; i++ {
		want, sent := fmt.Sprint(i), time.Now()
		b.Publish(other, want)
		for kit.Receive(t, got, "the neighbour's message") != want { // an earlier one may come again
		}
		worst = max(worst, time.Since(sent))
	}
	if worst > 5*time.Second {
		t.Errorf("a message waited %v", worst)
	}
	kit.WaitFor(t, func() bool { return neighbour.Err() == nil })
	if err := poisoned.Stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	neighbour.StopClean()
	b.ExpectLeft(other, 0)
}

package integration

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
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// nestedHeaders returns headers that a broker confirms and amqp091-go cannot read.
func nestedHeaders() amqp.Table {
	t := amqp.Table{}
	for range 40 {
		t = amqp.Table{"t": t}
	}
	return t
}

// manyHeaders returns headers that amqp091-go cannot read when the broker delivers them again.
func manyHeaders() amqp.Table {
	t := amqp.Table{}
	for i := range 8300 {
		t[fmt.Sprint(i)] = nil
	}
	return t
}

// headersThatFillAFrame leave no room for the one header that RabbitMQ 4.0 adds at a redelivery.
func headersThatFillAFrame() amqp.Table { return amqp.Table{"x": strings.Repeat("x", 131_010)} }

// publishHeaders publishes a message of the id "poison".
func (b *consumerBench) publishHeaders(queue string, headers amqp.Table) {
	b.t.Helper()
	c, err := b.plain.PublishWithDeferredConfirm("", queue, true, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: "poison", Headers: headers})
	if err != nil {
		b.t.Fatal(err)
	}
	if ok, err := c.WaitContext(b.ctx()); !ok {
		b.t.Fatalf("publish: confirmed %v, %v", ok, err)
	}
}

// A plainConn is a Connection of amqp091-go alone, which cannot read such headers. It has no other one to offer.
type plainConn struct {
	url string

	mu    sync.Mutex
	ac    *amqp.Connection
	dials int
}

func newPlainConn(b *consumerBench) *plainConn {
	c := &plainConn{url: b.broker.URL()}
	b.t.Cleanup(func() {
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
	needsControl(t)
	const limit = 6
	for name, headers := range map[string]amqp.Table{
		"nested": nestedHeaders(), "many": manyHeaders(), "fill a frame": headersThatFillAFrame(),
	} {
		t.Run(name, func(t *testing.T) {
			b := newConsumerBench(t)
			dead := b.queue(amqp.Table{"x-delivery-limit": 100})
			queue := b.queue(amqp.Table{
				"x-delivery-limit": limit, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
			})
			b.publishHeaders(queue, headers)
			b.publish(queue, numbers(5)...)
			var log logbook
			got := make(chan *consumer.Delivery, 100)
			r := b.begin(consumer.Config{Queue: queue, Workers: 5, Prefetch: 10, HasDeadLetterExchange: true, Logger: log.logger()},
				func(_ context.Context, d *consumer.Delivery) error {
					if d.MessageId == "poison" {
						return errors.New("it comes back too large for a frame")
					}
					got <- d
					return nil
				})
			missing := map[string]bool{}
			for _, n := range numbers(5) {
				missing[n] = true
			}
			for len(missing) > 0 {
				d := receive(t, got, "message")
				delete(missing, d.MessageId)
				if n, _ := d.Headers["x-delivery-count"].(int64); n > 4 {
					t.Errorf("message %s was counted as failed %d times along with the poison", d.MessageId, n)
				}
			}
			if err := b.broker.AwaitQueue(b.ctx(), dead, func(c rabbit.Counts) bool { return c.Ready > 0 }); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return r.Err() == nil })
			r.stopClean()
			b.expectLeft(queue, 0)
			b.expectLeft(dead, 1)
			if log.count("cannot be read") == 0 {
				t.Error("nobody was told of the poison")
			}
		})
	}
}

func TestS55PoisonHeadersWithoutALimitMakeNoHotLoopAndEndWithTheirRemoval(t *testing.T) {
	b := newConsumerBench(t)
	queue := b.name()
	b.declare(queue, "classic", nil)
	b.publishHeaders(queue, nestedHeaders())
	got := make(chan string, 10)
	conn := newPlainConn(b)
	r := b.beginOver(conn, consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		got <- d.MessageId
		return nil
	})
	var poison *consumer.PoisonError
	waitFor(t, func() bool { return errors.As(r.Err(), &poison) && poison.Attempts >= 10 })
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
	waitFor(t, func() bool {
		n, err := b.plain.QueuePurge(queue, false) // of ready messages, so between two attempts
		return err == nil && n == 1
	})
	b.publish(queue, "after")
	if m := receive(t, got, "message"); m != "after" {
		t.Errorf("got %s, want after", m)
	}
	waitFor(t, func() bool { return r.Err() == nil })
	r.stopClean()
	b.expectLeft(queue, 0)
}

func TestS55ANeighbourOfAPoisonedQueueGoesOnConsuming(t *testing.T) {
	b := newConsumerBench(t)
	queue, other := b.name(), b.queue(amqp.Table{"x-delivery-limit": 1000})
	b.declare(queue, "classic", nil)
	got := make(chan string, 10_000)
	conn := newPlainConn(b)
	neighbour := b.beginOver(conn, consumer.Config{Queue: other}, func(_ context.Context, d *consumer.Delivery) error {
		got <- d.MessageId
		return nil
	})
	b.publishHeaders(queue, nestedHeaders())
	poisoned := b.beginOver(conn, consumer.Config{Queue: queue}, func(context.Context, *consumer.Delivery) error { return nil })
	var poison *consumer.PoisonError
	var worst time.Duration
	for i := 0; !errors.As(poisoned.Err(), &poison) || poison.Attempts < 5; i++ {
		want, sent := fmt.Sprint(i), time.Now()
		b.publish(other, want)
		for receive(t, got, "the neighbour's message") != want { // an earlier one may come again
		}
		worst = max(worst, time.Since(sent))
	}
	if worst > 5*time.Second {
		t.Errorf("a message waited %v", worst)
	}
	waitFor(t, func() bool { return neighbour.Err() == nil })
	if err := poisoned.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	neighbour.stopClean()
	b.expectLeft(other, 0)
}

package consuming

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

func TestPromise13GetHandsOutOneDeliveryToSettleOnce(t *testing.T) {
	kit.NeedsControl(t)
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	for name, c := range map[string]struct {
		settle func(*consumer.Delivery) error
		left   int
	}{
		"Ack":                    {func(d *consumer.Delivery) error { return d.Ack(false) }, 0},
		"Reject":                 {func(d *consumer.Delivery) error { return d.Reject(false) }, 0},
		"Nack":                   {func(d *consumer.Delivery) error { return d.Nack(false, false) }, 0},
		"Reject with requeueing": {func(d *consumer.Delivery) error { return d.Reject(true) }, 1},
		"Nack with requeueing":   {func(d *consumer.Delivery) error { return d.Nack(false, true) }, 1},
	} {
		b.Publish(queue, "m")
		d, ok, err := consumer.Get(b.Ctx(), b.Conn, queue)
		if err != nil || !ok {
			t.Fatalf("%s: Get = %v, %v", name, ok, err)
		}
		if string(d.Body) != "m" || d.Queue != queue {
			t.Errorf("%s: got %s from %s", name, d.Body, d.Queue)
		}
		if err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool { return c.Unacked == 1 && c.Ready == 0 }); err != nil {
			t.Errorf("%s: before settling: %v", name, err)
		}
		if err := c.settle(d); err != nil {
			t.Errorf("%s = %v", name, err)
		}
		if err := d.Ack(false); !errors.Is(err, consumer.ErrAlreadySettled) {
			t.Errorf("%s, then Ack = %v, want ErrAlreadySettled", name, err)
		}
		b.ExpectLeft(queue, c.left)
		if _, err := b.Plain.QueuePurge(queue, false); err != nil {
			t.Fatal(err)
		}
	}
	if b.Dialled() != 1 {
		t.Errorf("%d links dialled, want 1", b.Dialled())
	}
}

func TestPromise13GetsDeliveryIsStaleAfterAConnectionLoss(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	b.Publish(queue, "m")
	d, ok, err := consumer.Get(b.Ctx(), b.Conn, queue)
	if err != nil || !ok {
		t.Fatalf("Get = %v, %v", ok, err)
	}
	ac, err := b.Conn.ConsumeConnection(b.Ctx())
	if err != nil {
		t.Fatal(err)
	}
	closed := ac.NotifyClose(make(chan *amqp.Error, 1))
	b.Cut()
	_ = kit.Receive(t, closed, "close")
	if err := d.Ack(false); !errors.Is(err, consumer.ErrStaleDelivery) {
		t.Errorf("Ack = %v, want ErrStaleDelivery", err)
	}
	again := b.Take(queue)
	if !again.Redelivered {
		t.Error("the message was not redelivered")
	}
}

func TestGetFromAnEmptyOrMissingQueueLeavesNothingBehind(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	for range 2100 { // more than a connection has channels
		if d, ok, err := consumer.Get(b.Ctx(), b.Conn, queue); d != nil || ok || err != nil {
			t.Fatalf("Get = %v, %v, %v; want nothing", d, ok, err)
		}
	}
	var refused *amqp.Error
	if _, ok, err := consumer.Get(b.Ctx(), b.Conn, queue+"-missing"); ok || !errors.As(err, &refused) || refused.Code != 404 {
		t.Errorf("Get from a missing queue = %v, %v, want 404", ok, err)
	}
	var wrong *amqperr.FieldError
	if _, _, err := consumer.Get(b.Ctx(), b.Conn, ""); !errors.As(err, &wrong) {
		t.Errorf("Get from no queue = %v, want a *FieldError", err)
	}
	ended, end := context.WithTimeout(b.Ctx(), time.Nanosecond)
	defer end()
	<-ended.Done()
	if _, _, err := consumer.Get(ended, b.Conn, queue); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get with an ended ctx = %v, want its cause", err)
	}
	if b.Dialled() != 1 {
		t.Errorf("%d links dialled, want 1", b.Dialled())
	}
}

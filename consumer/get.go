package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// Get gets one message from a queue (basic.get), for scripts and tools. Use a Consumer to process a queue. ok is
// false if the queue is empty.
//
// The caller settles the delivery with one Ack, Nack or Reject. Until then the message stays unacknowledged and
// occupies a channel. The settlement waits up to five seconds for the broker; nil means that the broker has accepted
// it. After ErrStaleDelivery or another error, the message may be redelivered. A second settlement returns
// ErrAlreadySettled.
//
// A message with headers that cannot be read is returned with an *UnreadableError: d is not nil, ok is true and the
// headers are missing. The caller settles it like any other message.
//
// RabbitMQ does not allow basic.get on streams, where it closes the whole connection, or on quorum queues with a
// single active consumer.
func Get(ctx context.Context, conn Connection, queue string) (d *Delivery, ok bool, err error) {
	if p := validate.Name(queue); p != nil || queue == "" {
		if p == nil {
			p = &validate.Problem{Problem: "is empty", Fix: "name the queue"}
		}
		return nil, false, &amqperr.FieldError{Package: "consumer", Field: "queue", Problem: p.Problem, Fix: p.Fix}
	}
	ac, err := conn.ConsumeConnection(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("consumer: %w", validate.Unprefixed(err))
	}
	// One call covers all steps, so that no channel remains open if ctx ends between them.
	got, err := wire.Call(ctx, ac, func() (*amqp.Delivery, error) { return getOne(ac, queue) })
	if fix := wire.ChannelFix(err); fix != "" {
		return nil, false, fmt.Errorf("consumer: get from queue %s: %w; %s", validate.Quote(queue), validate.Unprefixed(err), fix)
	}
	if err != nil {
		return nil, false, fmt.Errorf("consumer: get from queue %s: %w", validate.Quote(queue), validate.Unprefixed(err))
	}
	if got == nil {
		return nil, false, nil
	}
	d = &Delivery{Delivery: *got, Queue: queue}
	if reason, unreadable := wire.Unreadable(d.Headers); unreadable {
		d.Headers = nil
		return d, true, &UnreadableError{Queue: queue, MessageID: d.MessageId, Reason: reason}
	}
	return d, true, nil
}

// getOne gets a delivery on a new channel. It returns nil and closes the channel if the queue is empty.
func getOne(ac *amqp.Connection, queue string) (*amqp.Delivery, error) {
	ch, err := ac.Channel()
	if err != nil {
		return nil, err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	d, ok, err := ch.Get(queue, false)
	if err != nil || !ok {
		return nil, errors.Join(err, ch.Close())
	}
	d.Acknowledger = &single{ac: ac, ch: ch, closed: closed, tag: d.DeliveryTag}
	return &d, nil
}

// single settles the only delivery of a channel once, and closes the channel.
type single struct {
	ac      *amqp.Connection
	ch      *amqp.Channel
	closed  <-chan *amqp.Error
	tag     uint64
	settled atomic.Bool
}

func (s *single) Ack(uint64, bool) error {
	return s.settle(func() error { return s.ch.Ack(s.tag, false) })
}

func (s *single) Nack(_ uint64, _, requeue bool) error {
	return s.settle(func() error { return s.ch.Nack(s.tag, false, requeue) })
}

func (s *single) Reject(_ uint64, requeue bool) error {
	return s.settle(func() error { return s.ch.Reject(s.tag, requeue) })
}

// settle sends the settlement and closes the channel. The broker answers the close after it has passed the settlement
// to the queue: it does not delay a single settlement.
func (s *single) settle(send func() error) error {
	if s.settled.Swap(true) {
		return ErrAlreadySettled
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	err := wire.Do(ctx, s.ac, func() error {
		if err := send(); wire.IsClosed(err) {
			return ErrStaleDelivery
		} else if err != nil {
			return err
		}
		if err := s.ch.Close(); err != nil {
			return err
		}
		// Close returns nil for a channel that was lost in the meantime.
		if lost := <-s.closed; lost != nil {
			return lost
		}
		return nil
	})
	if err == nil || errors.Is(err, ErrStaleDelivery) {
		return err
	}
	return fmt.Errorf("consumer: settlement not confirmed, the message may be redelivered: %w", err)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	window  = 200                    // unacknowledged messages
	linger  = 10 * time.Millisecond  // without a message, after which written ones are acknowledged
	quiet   = 100 * time.Millisecond // without a message, after which the queue may be empty
	atMost  = 2 * time.Second        // without a message, although the queue holds some
	retries = 5                      // lost connections without a message, after which a message may be the cause
)

// A receiver writes the messages of a queue and acknowledges each after it was written.
//
// It holds back acknowledgements until it needs them: RabbitMQ then delivers at most the window, so that the receiver never takes more messages than
// it writes. No message is returned to the queue, which RabbitMQ might count as a failed delivery.
type receiver struct {
	*app
	conn   *amqpkit.Conn
	queue  string
	args   amqp.Table // of basic.consume
	follow bool
	count  int // messages to receive; zero means all
	w      *messageWriter

	got int // messages written
}

// run receives until the queue is empty, count is reached, or ctx ends. It continues after a lost connection if it follows the queue.
func (r *receiver) run(ctx context.Context) error {
	for lost, before := 0, 0; ; before = r.got {
		err := r.session(ctx)
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), r.w.err)
		}
		if err == nil || r.w.err != nil || !r.follow || wire.Code(err) != 0 && wire.Code(err) != amqp.ConnectionForced && !wire.HardClose(err) {
			return err
		}
		if lost++; r.got > before {
			lost = 1
		}
		if lost >= retries {
			return fmt.Errorf("the connection was lost %d times without a message; RabbitMQ may be unable to deliver the next one: %w", lost, err)
		}
		r.warn("connection lost, connecting again: %v", err)
	}
}

// session receives on one connection. It returns nil at the end.
func (r *receiver) session(ctx context.Context) (err error) {
	ac, err := r.conn.ConsumeConnection(ctx)
	if err != nil {
		return err
	}
	ch, err := wire.Channel(ctx, ac)
	if err != nil {
		return err
	}
	s := &subscription{receiver: r, ac: ac, ch: ch, closed: ch.NotifyClose(make(chan *amqp.Error, 1))}
	defer func() {
		if s.acked { // when a channel closes, RabbitMQ discards acknowledgements that it has not passed on to a quorum queue yet
			time.Sleep(100 * time.Millisecond)
		}
		late, cancel := outlasting(ctx, time.Second)
		defer cancel()
		err = errors.Join(s.cause(err), wire.Do(late, ac, func() error {
			if ch.IsClosed() {
				return nil
			}
			if err != nil { // otherwise a quorum queue would count the messages as failed
				_ = ch.Nack(0, true, true)
			}
			return ch.Close()
		}))
	}()
	for {
		if done, err := s.run(ctx); done || err != nil {
			return err
		}
	}
}

// A subscription is a consumer of the queue that lives until its window is full, if messages are counted, and otherwise until the end.
type subscription struct {
	*receiver
	ac      *amqp.Connection
	ch      *amqp.Channel
	closed  chan *amqp.Error
	last    uint64 // delivery tag
	unacked int
	acked   bool
}

func (s *subscription) run(ctx context.Context) (done bool, err error) {
	size := window
	if s.count > 0 {
		size = min(size, s.count-s.got)
	}
	tag := fmt.Sprintf("amqpkit-receive-%d", s.got)
	deliveries, err := wire.Call(ctx, s.ac, func() (<-chan amqp.Delivery, error) {
		if err := s.ch.Qos(size, 0, false); err != nil {
			return nil, err
		}
		return s.ch.Consume(s.queue, tag, false, false, false, false, s.args)
	})
	if err != nil {
		return false, err
	}
	since := time.Now() // of the last delivery
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		if s.count == 0 && s.unacked > 0 {
			wait.Reset(linger)
		} else {
			wait.Reset(quiet)
		}
		select {
		case <-ctx.Done():
			return true, errors.Join(s.leave(ctx, tag, nil), context.Cause(ctx))
		case <-wait.C:
			switch {
			case s.count > 0 && s.unacked > 0: // continue with a smaller window
				return false, s.leave(ctx, tag, deliveries)
			case s.unacked > 0:
				if err := s.settle(ctx); err != nil {
					return false, err
				}
			case !s.follow:
				left, err := s.ready(ctx)
				if err != nil {
					return false, err
				}
				if left > 0 && time.Since(since) < atMost {
					continue
				}
				if left > 0 && s.got == 0 {
					s.warn("%s", describeEmpty(s.queue, left))
				}
				return true, s.leave(ctx, tag, deliveries)
			}
		case d, ok := <-deliveries:
			if !ok {
				return false, errors.New("RabbitMQ cancelled the consumer: the queue was deleted, or its node has stopped")
			}
			since = time.Now()
			if err := s.write(&d); err != nil {
				return false, err
			}
			switch {
			case s.count > 0 && s.got == s.count:
				return true, s.leave(ctx, tag, deliveries)
			case s.count > 0 && s.unacked == size:
				return false, s.leave(ctx, tag, deliveries)
			case s.count == 0 && s.unacked >= size/2:
				if err := s.settle(ctx); err != nil {
					return false, err
				}
			}
		}
	}
}

// write writes a message.
func (s *subscription) write(d *amqp.Delivery) error {
	if reason, unreadable := wire.Unreadable(d.Headers); unreadable {
		return &consumer.UnreadableError{Queue: s.queue, MessageID: d.MessageId, Reason: reason}
	}
	if err := s.w.write(d.Exchange, d.RoutingKey, history.Publishing(d), d.Redelivered); err != nil {
		return err
	}
	if n, ok := d.Headers["x-stream-offset"].(int64); ok {
		s.args = amqp.Table{"x-stream-offset": n + 1} // where the next subscription continues
	}
	s.got++
	s.unacked++
	s.last = d.DeliveryTag
	return nil
}

// settle acknowledges the written messages, after the output has taken them.
func (s *subscription) settle(ctx context.Context) error {
	if s.unacked == 0 {
		return nil
	}
	if err := s.w.flush(); err != nil {
		return err
	}
	late, cancel := outlasting(ctx, time.Second)
	defer cancel()
	s.unacked, s.acked = 0, true
	return wire.Do(late, s.ac, func() error { return s.ch.Ack(s.last, true) })
}

// leave cancels the consumer and acknowledges the written messages, in this order, because an acknowledgement makes place for another delivery.
// Messages that RabbitMQ has delivered meanwhile are written too, unless deliveries is nil: then they return to the queue.
func (s *subscription) leave(ctx context.Context, tag string, deliveries <-chan amqp.Delivery) error {
	late, cancel := outlasting(ctx, time.Second)
	defer cancel()
	if err := wire.Do(late, s.ac, func() error { return s.ch.Cancel(tag, false) }); err != nil {
		return err
	}
	if deliveries == nil {
		return errors.Join(s.settle(ctx), wire.Do(late, s.ac, func() error { return s.ch.Nack(0, true, true) }))
	}
	for d := range deliveries {
		if err := s.write(&d); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// ready returns the number of messages that the queue can deliver.
func (s *subscription) ready(ctx context.Context) (int, error) {
	q, err := wire.Call(ctx, s.ac, func() (amqp.Queue, error) {
		return s.ch.QueueDeclarePassive(s.queue, false, false, false, false, nil)
	})
	return q.Messages, err
}

// cause returns RabbitMQ's reason if err reports only that the channel is closed.
func (s *subscription) cause(err error) error {
	if err == nil {
		return nil
	}
	select {
	case reason := <-s.closed:
		if reason != nil {
			return fmt.Errorf("receive from queue %s: %w", validate.Quote(s.queue), reason)
		}
	default:
	}
	return err
}

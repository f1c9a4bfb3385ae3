package parking

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	batchSize   = 64               // messages that are published at a time
	scanTimeout = 10 * time.Minute // a third of RabbitMQ's default consumer timeout, see ErrScanTimeout
)

// A scan reads once the messages that a queue holds at its start. Unacknowledged messages return to the queue when it ends.
type scan struct {
	conn      consumer.Connection
	queue     string
	ac        *amqp.Connection
	dedicated bool // ac belongs to the scan
	ch        *amqp.Channel
	closed    chan *amqp.Error // why RabbitMQ closed the channel

	left    int       // messages to read
	unacked int       // messages read and not acknowledged
	since   time.Time // when the first of these was read
	acked   bool      // a message was acknowledged
	skipped SkippedError
}

// newScan begins a scan. It does not connect if the name of the queue, in the given field, is invalid, or if the caller has found something wrong.
func newScan(ctx context.Context, conn consumer.Connection, field, queue string, wrong error) (s *scan, err error) {
	if err := errors.Join(checkQueue(field, queue), wrong); err != nil {
		return nil, err
	}
	s = &scan{conn: conn, queue: queue}
	s.left, err = s.connect(ctx)
	return s, err
}

func checkQueue(field, queue string) error {
	if p := validate.Name(queue); p != nil {
		return fieldError(field, p.Problem, p.Fix)
	} else if queue == "" {
		return fieldError(field, "is empty", "name a parking queue")
	}
	return nil
}

func fieldError(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "parking", Field: field, Problem: problem, Fix: fix}
}

// connect opens a channel, on a dedicated connection if possible, and returns the number of messages in the queue.
func (s *scan) connect(ctx context.Context) (messages int, err error) {
	ac, err := s.conn.ConsumeConnection(ctx)
	if err != nil {
		return 0, fmt.Errorf("parking: %w", validate.Unprefixed(err))
	}
	s.ac, s.dedicated = ac, false
	if d, ok := s.conn.(interface {
		DedicatedConnection(ctx context.Context) (*amqp.Connection, error)
	}); ok {
		if ac, err := d.DedicatedConnection(ctx); err == nil { // otherwise the number of connections may be limited
			s.ac, s.dedicated = ac, true
		}
	}
	ch, err := wire.Channel(ctx, s.ac)
	if err == nil {
		s.ch, s.closed = ch, ch.NotifyClose(make(chan *amqp.Error, 1))
		if messages, err = s.ready(ctx); err == nil {
			return messages, nil
		}
	}
	return 0, errors.Join(s.failed(err), s.disconnect(ctx))
}

// ready returns the number of messages that the queue can deliver.
func (s *scan) ready(ctx context.Context) (int, error) {
	q, err := wire.Call(ctx, s.ac, func() (amqp.Queue, error) { return s.ch.QueueDeclarePassive(s.queue, false, false, false, false, nil) })
	return q.Messages, err
}

// disconnect closes the dedicated connection, or the channel on a shared one.
func (s *scan) disconnect(ctx context.Context) error {
	end := s.ac.Close
	if !s.dedicated {
		if s.ch == nil {
			return nil
		}
		end = s.ch.Close
	}
	err := s.late(ctx, end)
	if err == nil || wire.IsClosed(err) {
		return nil
	}
	wire.Kill(s.ac) // an open channel would hold messages
	return s.failed(err)
}

func (s *scan) failed(err error) error {
	return fmt.Errorf("parking: scan queue %s: %w", validate.Quote(s.queue), s.cause(err))
}

// cause returns RabbitMQ's reason if err reports only that the channel or its connection is closed.
func (s *scan) cause(err error) error {
	if wire.IsClosed(err) || errors.Is(err, net.ErrClosed) {
		select {
		case cause := <-s.closed:
			if cause != nil {
				return cause
			}
		default:
		}
	}
	return err
}

// next returns the next readable message, or nil at the end.
func (s *scan) next(ctx context.Context) (*amqp.Delivery, error) {
	for s.left > 0 {
		if s.expires(0) {
			return nil, ErrScanTimeout
		}
		var d amqp.Delivery
		var found bool
		err := wire.Do(ctx, s.ac, func() (err error) {
			d, found, err = s.ch.Get(s.queue, false)
			return err
		})
		if err = s.cause(err); wire.HardClose(err) {
			return nil, &BlockedError{Queue: s.queue, err: err}
		}
		if err != nil {
			return nil, s.failed(err)
		}
		if !found { // others have consumed the rest
			break
		}
		if s.unacked++; s.unacked == 1 {
			s.since = time.Now()
		}
		s.left--
		reason, unreadable := wire.Unreadable(d.Headers)
		if !unreadable {
			return &d, nil
		}
		s.skipped.add(&consumer.UnreadableError{Queue: s.queue, MessageID: d.MessageId, Reason: reason})
	}
	s.left = 0
	return nil, nil
}

// restart begins a scan of the same messages after the connection was lost.
func (s *scan) restart(ctx context.Context) error {
	if _, err := s.connect(ctx); err != nil {
		return err
	}
	s.left, s.unacked, s.skipped = s.left+s.unacked, 0, SkippedError{}
	s.awaitReady(ctx, s.left)
	return nil
}

// expires reports whether RabbitMQ may close the channel after d, because an unacknowledged message was held for too long.
func (s *scan) expires(d time.Duration) bool {
	return s.unacked > 0 && time.Since(s.since)+d >= scanTimeout
}

func (s *scan) ack(ctx context.Context, d *amqp.Delivery) error {
	s.acked, s.unacked = true, s.unacked-1
	return s.late(ctx, func() error { return s.ch.Ack(d.DeliveryTag, false) })
}

// close returns the unacknowledged messages and disconnects. It adds the skipped messages and its own error to err. When a channel closes,
// RabbitMQ discards acknowledgements that it has not passed on to a quorum queue yet. It gets 100 ms for them, or 50 ms
// after the end of ctx, so that close returns within 250 ms.
func (s *scan) close(ctx context.Context, err error) error {
	err = s.skipped.join(err)
	if s.acked && sleep(ctx, 100*time.Millisecond) != nil {
		_ = sleep(context.WithoutCancel(ctx), 50*time.Millisecond)
	}
	// On RabbitMQ 4.3 a basic.nack does not count as a failed delivery, a closed channel does.
	if s.unacked > 0 && s.late(ctx, func() error { return s.ch.Nack(0, true, true) }) == nil {
		s.awaitReady(ctx, s.unacked)
	}
	return errors.Join(err, s.disconnect(ctx))
}

// awaitReady waits until the queue can deliver n messages: a quorum queue takes returned messages in its own time, and the next scan should
// read them. It does not wait long, because others may consume them.
func (s *scan) awaitReady(ctx context.Context, n int) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if ready, err := s.ready(ctx); err != nil || ready >= n || sleep(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// late calls f even after the end of ctx, and returns soon after the end of ctx: after 20 ms and wire.Grace.
func (s *scan) late(ctx context.Context, f func() error) error {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(20*time.Millisecond, func() { cancel(context.Cause(ctx)) })
	})()
	return wire.Do(late, s.ac, f)
}

// sleep returns nil after d, or the cause when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	closeTimeout  = 5 * time.Second
	returnTimeout = time.Second
	returnPoll    = 5 * time.Millisecond
	settleFor     = 100 * time.Millisecond // see look.close
)

// A look goes once through a queue, message by message, over a channel of its own. What is not acknowledged is
// back in its place when the look is closed, or lost.
type look struct {
	ac    *amqp.Connection
	ch    *amqp.Channel
	queue string
	left  int // messages that were there when it began
	taken int // and are in hand
	acked bool
}

// lookInto begins a look at the messages that a queue has now: what is parked meanwhile is not among them.
func lookInto(ctx context.Context, conn consumer.Connection, queue string) (*look, error) {
	if p := wire.Name(queue); p != nil {
		return nil, fault("Queue", p.Problem, p.Fix)
	}
	if queue == "" {
		return nil, fault("Queue", "is empty", "name a parking queue, as Plan.ParkingQueue does")
	}
	ac, err := conn.Consuming(ctx)
	if err != nil {
		return nil, fmt.Errorf("retry: %w", err)
	}
	l := &look{ac: ac, queue: queue}
	err = wire.Do(ctx, ac, func() error {
		ch, err := ac.Channel()
		if err != nil {
			return err
		}
		q, err := ch.QueueDeclarePassive(queue, false, false, false, false, nil)
		if err != nil {
			return errors.Join(err, ch.Close())
		}
		l.ch, l.left = ch, q.Messages
		return nil
	})
	if err != nil {
		return nil, l.failed(err)
	}
	return l, nil
}

func (l *look) failed(err error) error {
	return fmt.Errorf("retry: look into queue %s: %w", wire.Quote(l.queue), err)
}

// next returns the next n messages at most, none at the end.
func (l *look) next(ctx context.Context, n int) ([]amqp.Delivery, error) {
	return wire.Call(ctx, l.ac, func() ([]amqp.Delivery, error) {
		var ds []amqp.Delivery
		for len(ds) < n && l.left > 0 {
			d, ok, err := l.ch.Get(l.queue, false)
			if err != nil {
				return nil, l.failed(err)
			}
			if !ok {
				l.left = 0
				break
			}
			l.left--
			l.taken++
			ds = append(ds, d)
		}
		return ds, nil
	})
}

func (l *look) ack(ctx context.Context, d amqp.Delivery) error {
	l.acked, l.taken = true, l.taken-1
	return wire.Do(ctx, l.ac, func() error { return l.ch.Ack(d.DeliveryTag, false) })
}

// close gives back what was not acknowledged. RabbitMQ throws away acknowledgements of a quorum queue that it still has in its
// buffers when the channel closes: they get the time to leave it.
func (l *look) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if l.acked {
		_ = sleep(ctx, settleFor)
	}
	return wire.Do(ctx, l.ac, func() error {
		if l.ch.IsClosed() {
			return nil
		}
		if l.taken > 0 {
			// Unlike what a closed channel returns, this does not count as failed deliveries.
			if err := l.ch.Nack(0, true, true); err != nil {
				return err
			}
			l.awaitReturn()
		}
		return l.ch.Close()
	})
}

// awaitReturn waits until the queue has what was given back, which a quorum queue takes in its own time: the next look is
// to see it. Where others consume it may never be as many, so there is an end to it.
func (l *look) awaitReturn() {
	for end := time.Now().Add(returnTimeout); time.Now().Before(end); time.Sleep(returnPoll) {
		q, err := l.ch.QueueDeclarePassive(l.queue, false, false, false, false, nil)
		if err != nil || q.Messages >= l.taken {
			return
		}
	}
}

// Peek returns the first n messages of a parking queue, or of any other, and leaves them there; RabbitMQ may put
// them behind those that were not looked at. Being looked
// at counts as a delivery, which a plan's parking queue takes any number of times; a queue with a delivery limit
// may drop a message by it.
func Peek(ctx context.Context, conn consumer.Connection, queue string, n int) (messages []Parked, err error) {
	l, err := lookInto(ctx, conn, queue)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	ds, err := l.next(ctx, n)
	for i := range ds {
		messages = append(messages, parkedFrom(&ds[i]))
	}
	return messages, err
}

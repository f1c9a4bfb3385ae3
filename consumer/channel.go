package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// settledAtOnce is the number of settlements that RabbitMQ's channel passes to a quorum queue without waiting.
const settledAtOnce = 32

// settleTime is the time that the broker gets to apply settlements before the channel is closed, plus settleEach for
// each settlement.
const (
	settleTime = 100 * time.Millisecond
	settleEach = 200 * time.Microsecond
)

// timeFor returns the time that the broker may need to apply n settlements that it has read. Only quorum queues need
// it, and they deliver at most 2000 messages at a time.
func timeFor(n int) time.Duration { return settleTime + time.Duration(min(n, 2000))*settleEach }

var errNoLeader = errors.New("the queue did not answer: its leader is unreachable")

// A channel is the AMQP channel of a subscription. After the end of Run's ctx, shutdown.calls limits its calls.
type channel struct {
	state    *runState
	ac       *amqp.Connection
	ch       *amqp.Channel
	isClosed func() bool // ch.IsClosed, made once
	queue    string
	tag      string
	log      *slog.Logger

	deliveries <-chan amqp.Delivery
	cancelled  <-chan string      // basic.cancel from the broker
	closed     <-chan *amqp.Error // the channel was closed
}

// open opens the channel. Its listeners are buffered, because amqp091-go's reader waits up to five seconds for a full
// listener and then drops the event.
func (c *channel) open(ctx context.Context) (err error) {
	if c.ch, err = wire.Channel(ctx, c.ac); err != nil {
		return err
	}
	c.isClosed = c.ch.IsClosed
	c.closed = c.ch.NotifyClose(make(chan *amqp.Error, 1))
	c.cancelled = c.ch.NotifyCancel(make(chan string, 1))
	return nil
}

func (c *channel) consume(ctx context.Context, prefetch int) (err error) {
	cfg := &c.state.cfg
	args := c.state.position.arguments(c.queue, cfg.Arguments)
	c.deliveries, err = wire.Call(ctx, c.ac, func() (<-chan amqp.Delivery, error) {
		if err := c.ch.Qos(prefetch, 0, false); err != nil {
			return nil, err
		}
		return c.ch.Consume(c.queue, c.tag, false, cfg.Exclusive, false, false, args)
	})
	return err
}

// cancel cancels the consumer. The broker answers after it has passed on all earlier settlements.
func (c *channel) cancel() error {
	return wire.Do(c.state.shutdown.calls, c.ac, func() error { return c.ch.Cancel(c.tag, false) })
}

func (c *channel) close(ctx context.Context) {
	if err := wire.Do(ctx, c.ac, c.ch.Close); err != nil {
		c.log.DebugContext(c.state.ctx(), "consumer: channel not closed cleanly", "error", err)
	}
}

// arrived returns when the broker has read everything sent before: it answers in order.
func (c *channel) arrived() error {
	return wire.Do(c.state.shutdown.calls, c.ac, func() error { return c.ch.Qos(c.state.cfg.Prefetch, 0, false) })
}

// reachesQueue returns when the broker has read everything sent before, and reports whether the queue answers: a node
// that cannot reach the queue's leader reports zero consumers, although there is this one. It is satisfied with the
// node's answer if a passive declare may be refused (only RabbitMQ 4.3.0 requires the configure permission for it),
// and for a stream, which reports no consumers and stores no settlements.
func (c *channel) reachesQueue() (bool, error) {
	if c.state.noPassive || c.state.cfg.streams() || c.ac.Properties["version"] == "4.3.0" {
		return true, c.arrived()
	}
	q, err := wire.Call(c.state.shutdown.calls, c.ac, func() (amqp.Queue, error) {
		return c.ch.QueueDeclarePassive(c.queue, false, false, false, false, nil)
	})
	c.state.noPassive = wire.Code(err) == amqp.AccessRefused
	return q.Consumers > 0, err
}

// letSettle waits until the broker has read n settlements, and then for the time that it may need to apply them. A
// fixed wait alone is not enough: on a stalled connection the settlements would arrive together with the close.
func (c *channel) letSettle(n int) error {
	if err := c.arrived(); err != nil {
		return err
	}
	return c.pause(timeFor(n))
}

// pause returns after d. An error means that the channel was closed.
func (c *channel) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case err := <-c.closed:
		return closeReason(err)
	}
}

// closeReason returns why the channel was closed. amqp091-go passes nil if this side closed the connection.
func closeReason(err *amqp.Error) error {
	if err == nil {
		return amqp.ErrClosed
	}
	return err
}

// countsRequeues reports whether the broker counts a basic.nack with requeue as a failed delivery, as RabbitMQ did
// before 4.3.
func (c *channel) countsRequeues() bool {
	version, _ := c.ac.Properties["version"].(string)
	var major, minor int
	n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor)
	return n == 2 && (major < 4 || major == 4 && minor < 3)
}

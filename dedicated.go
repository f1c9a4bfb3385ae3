package amqpkit

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// DedicatedConnection opens another connection to the broker, for the caller alone, and renews its credentials. It runs Setup on it only if
// no session is up on which Setup has run. The Conn does not replace it after a loss and does not wait for it in [Conn.Ready]. The caller
// closes it; Close closes it too.
//
// It tries every URL once, in random order. Its error is a [*DialError], or wraps [ErrClosed].
//
// A consumer uses it for a queue with a message that closes the connection at every delivery, see consumer.PoisonError.
func (c *Conn) DedicatedConnection(ctx context.Context) (*amqp.Connection, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()
	if !c.hold() {
		return nil, context.Cause(c.ctx)
	}
	defer c.links.Done()
	s, failed := c.dialer.ConnectAny(ctx, c.targets, c.setUpFirst)
	if c.ctx.Err() != nil {
		if failed == nil {
			wire.Kill(s.Connection)
		}
		return nil, context.Cause(c.ctx)
	}
	if failed != nil {
		return nil, dialError(failed)
	}
	c.links.Go(func() {
		l := &link{conn: c}
		_ = l.serve(s)
		if c.ctx.Err() != nil {
			l.close(s.Connection)
			return
		}
		wire.Kill(s.Connection)
	})
	return s.Connection, nil
}

// A loss is how a session was lost, and when.
type loss struct {
	at  time.Time
	err error
}

// record notes how a session was lost.
func (l *link) record(err error) {
	l.conn.mu.Lock()
	defer l.conn.mu.Unlock()
	l.lost = loss{time.Now(), err}
}

// LastLoss returns when and how the consuming connection was lost last; the error is nil if it never was. A consumer that
// starts soon after a loss by a suspected message takes the same care as one that was consuming.
func (c *Conn) LastLoss() (at time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.roles[consuming]; l != nil {
		return l.lost.at, l.lost.err
	}
	return time.Time{}, nil
}

// hold keeps Done open until links.Done is called. It returns false for a closed Conn.
func (c *Conn) hold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.links.Add(1)
	return true
}

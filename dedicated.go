package amqpkit

import (
	"context"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/dial"
	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// DedicatedConnection opens another connection to the broker, for the caller alone, and renews its credentials. Setup runs on it only if
// no session is open on which it has run. The Conn does not replace it after a loss, and [Conn.Ready] does not wait for it. The caller
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
	defer c.running.Done()
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
	c.logConnected(ctx, dedicated, s)
	l := &link{conn: c, role: dedicated, sessions: 1, failures: new(logs.Limiter)}
	c.running.Go(func() { l.runDedicated(s) })
	return s.Connection, nil
}

// runDedicated serves a dedicated connection until its caller or the Conn closes it, or it is lost.
func (l *link) runDedicated(s *dial.Session) {
	began := time.Now()
	err := l.serve(s)
	switch {
	case l.conn.ctx.Err() != nil:
		l.close(s)
	case !errors.Is(err, amqp.ErrClosed):
		wire.Kill(s.Connection)
		l.conn.logLost(dedicated, s, err, time.Since(began) < flapping)
		return
	}
	l.logClosed()
}

// LastLoss returns when and how the consuming connection was lost last; the error is nil if it never was. A consumer that
// starts soon after a loss by a suspected message takes the same care as one that was consuming.
func (c *Conn) LastLoss() (at time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.find(consuming); l != nil {
		return l.lost.at, l.lost.err
	}
	return time.Time{}, nil
}

// hold keeps Done open until running.Done is called. It returns false for a closed Conn.
func (c *Conn) hold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.running.Add(1)
	return true
}

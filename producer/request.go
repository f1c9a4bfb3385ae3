package producer

import (
	"context"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// requestContext returns a ctx for a request that the broker must answer within d. While it blocks publishing, it reads
// nothing and the time is stopped: killing the link would lose the outcomes of messages in flight, and the broker would
// block the next connection too.
func (p *Producer) requestContext(ac *amqp.Connection, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(p.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancelAfter(ctx, cancel, wire.GateOf(ac), d) })
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}

// cancelAfter cancels ctx after the gate has been open for d.
func cancelAfter(ctx context.Context, cancel context.CancelCauseFunc, gate *wire.Gate, d time.Duration) {
	for {
		changed, blocked := gate.Watch()
		var late <-chan time.Time
		if blocked == nil {
			late = time.After(d)
		}
		select {
		case <-late:
			cancel(context.DeadlineExceeded)
			return
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// awaitUnblocked waits until the broker accepts messages on ac. It returns false if ac or the Producer is closed first.
// Only killing the link would end a request that is sent before, and other producers may have messages in flight on it.
func (p *Producer) awaitUnblocked(ac *amqp.Connection, gate *wire.Gate) bool {
	changed, blocked := gate.Watch()
	if blocked == nil {
		return true
	}
	closed := ac.NotifyClose(make(chan *amqp.Error, 1))
	for blocked != nil {
		select {
		case <-changed:
		case <-closed: //nolint:errcheck // the Connection reports the reason
			return false
		case <-p.ctx.Done():
			return false
		}
		changed, blocked = gate.Watch()
	}
	return true
}

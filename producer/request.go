package producer

import (
	"context"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// requestContext returns a ctx for a request to the broker, which has d to answer. While it blocks
// publishing it reads nothing, so that time does not count: a link killed then would cost what
// is in flight on it, and the next one would be blocked as well.
func (p *Producer) requestContext(ac *amqp.Connection, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(p.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancelAfter(ctx, cancel, wire.GateOf(ac), d) })
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}

// cancelAfter ends ctx when the gate has been open for d.
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

// awaitUnblocked waits until the broker takes messages on ac, and returns false if ac or the Producer
// ended before. A request that hangs meanwhile could be ended only with the link, which others
// may have messages in flight on.
func (p *Producer) awaitUnblocked(ac *amqp.Connection, gate *wire.Gate) bool {
	changed, blocked := gate.Watch()
	if blocked == nil {
		return true
	}
	closed := ac.NotifyClose(make(chan *amqp.Error, 1))
	for blocked != nil {
		select {
		case <-changed:
		case <-closed: //nolint:errcheck // the reason is the connection's to tell
			return false
		case <-p.ctx.Done():
			return false
		}
		changed, blocked = gate.Watch()
	}
	return true
}

package consumer

import (
	"context"
	"time"
)

// sharedTime is the maximum wait for the shared connection before a subscription returns to it; after that it tries
// again later.
const sharedTime = 100 * time.Millisecond

// replace drops the suspicion and replaces a session with a prefetch of one by a session with the full prefetch.
// moved is false if the caller must try again later. The error comes from the session or from the next subscription.
func (b *subscriber) replace(ctx context.Context, s *session) (next *session, moved bool, err error) {
	if b.overlaps() {
		if next, err = b.successor(ctx, s); err != nil {
			s.log.DebugContext(ctx, "consumer: cannot return to the full prefetch yet", "error", err)
			return nil, false, nil
		}
	}
	b.poison.drop(len(s.held.heap) > 0)
	if err = s.finishDeliveries(ctx); err != nil || next != nil || ctx.Err() != nil {
		return next, true, err
	}
	s.remember(nil)
	next, err = b.successor(ctx, s)
	return next, true, err
}

// overlaps reports whether the next subscription starts before this one ends, because an auto-delete queue is deleted
// with its last consumer. It is false for an exclusive consumer, which does not allow a second one, for Config.Key,
// because two consumers share messages without an order, and for streams, because both consumers would receive every
// message.
func (b *subscriber) overlaps() bool {
	cfg := &b.state.cfg
	return !cfg.Exclusive && !cfg.streams() && cfg.Key == nil
}

// successor subscribes with the full prefetch: on the shared connection, or on the session's connection if
// Config.Declare declared something there.
func (b *subscriber) successor(ctx context.Context, s *session) (*session, error) {
	prefetch := b.state.cfg.Prefetch
	if b.state.cfg.Declare != nil {
		next, err := b.consumeOn(s.ac, s.queue, prefetch)
		if err == nil {
			next.own, s.own = s.own, false
		}
		return next, err
	}
	wait, cancel := context.WithTimeout(ctx, sharedTime)
	defer cancel()
	ac, err := b.conn.ConsumeConnection(wait)
	if err != nil {
		return nil, &SubscribeError{Queue: s.queue, Err: err}
	}
	return b.consumeOn(ac, s.queue, prefetch)
}

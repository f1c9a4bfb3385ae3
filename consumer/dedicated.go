package consumer

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A DedicatedConnector is a Connection that can open another connection for one subscription alone. *amqpkit.Conn is one. A
// Consumer uses it while a message is suspected of costing the connection, see PoisonError.
type DedicatedConnector interface {
	Connection
	// Dedicated makes one attempt to open a connection, which the caller closes.
	DedicatedConnection(ctx context.Context) (*amqp.Connection, error)
	// LastLoss returns when and how the connection of Consuming was lost last.
	LastLoss() (at time.Time, err error)
}

// dedicatedTries is the number of failed attempts in a row after which the shared connection is used instead.
const dedicatedTries = 3

// sharedTime bounds the wait for the shared connection before a subscription returns to it; then it tries again later.
const sharedTime = 100 * time.Millisecond

// connection returns the connection to subscribe on, and whether it is for this subscription alone.
func (r *run) connection(ctx context.Context) (ac *amqp.Connection, own bool, err error) {
	ac, err = r.conn.ConsumeConnection(ctx) // also while alone: it waits until the broker is there
	if err != nil {
		return nil, false, fmt.Errorf("consumer: %w", unprefixed(err))
	}
	d, ok := r.conn.(DedicatedConnector)
	if !ok {
		return ac, false, nil
	}
	r.poison.others(d.LastLoss())
	if !r.poison.alone {
		return ac, false, nil
	}
	dedicated, err := d.DedicatedConnection(ctx)
	if err == nil {
		r.poison.refused = 0
		return dedicated, true, nil
	}
	// The broker may refuse it for good, as where the number of connections is limited.
	if r.poison.refused++; ctx.Err() == nil && (wire.Code(err) != 0 || r.poison.refused >= dedicatedTries) {
		r.log.Warn("consumer: no dedicated connection for a queue with a suspected message, the shared one is used", "error", err)
		return ac, false, nil
	}
	return nil, false, &SubscribeError{Queue: r.cfg.Queue, Err: err}
}

// trust drops the suspicion and moves to a subscription with the full prefetch, the session's next. It returns false if
// the caller must try again later. The error comes from this session or from the next subscription.
func (s *session) trust(ctx context.Context) (moved bool, err error) {
	s.clearError()
	if s.run.overlaps() {
		if s.next, err = s.successor(ctx); err != nil {
			s.log.Debug("consumer: full prefetch not taken up yet", "error", err)
			return false, nil
		}
	}
	s.run.poison.over(len(s.held.heap) > 0)
	if err = s.finishDeliveries(ctx); err != nil || s.next != nil || ctx.Err() != nil {
		return true, err
	}
	s.remember()
	s.next, err = s.successor(ctx)
	return true, err
}

// clearError removes a PoisonError from Err.
func (s *session) clearError() {
	if s.run.poison.err != nil {
		s.run.poison.err = nil
		s.subscribedAgain()
	}
}

// overlaps reports whether the next subscription begins before this one ends: an auto-delete queue is deleted with its last
// consumer. An exclusive consumer does not allow it; two consumers share messages without an order, and
// both receive every message of a stream.
func (r *run) overlaps() bool { return !r.cfg.Exclusive && !r.cfg.streams() && r.cfg.Key == nil }

// successor subscribes with the full prefetch: on the shared connection, or on the session's own if Config.Declare
// declared something there.
func (s *session) successor(ctx context.Context) (*session, error) {
	r := s.run
	if r.cfg.Declare != nil {
		next, err := r.consumeOn(s.ac, s.queue, r.cfg.Prefetch)
		if err == nil {
			next.own, s.own = s.own, false
		}
		return next, err
	}
	wait, cancel := context.WithTimeout(ctx, sharedTime)
	defer cancel()
	ac, err := r.conn.ConsumeConnection(wait)
	if err != nil {
		return nil, &SubscribeError{Queue: s.queue, Err: err}
	}
	return r.consumeOn(ac, s.queue, r.cfg.Prefetch)
}

// finishDeliveries cancels the consumer, finishes its deliveries in order and settles them, so that RabbitMQ loses and counts none. See
// drain for the order of cancel, settlements and close. Held deliveries are settled at once. Its error is a *LostError.
func (s *session) finishDeliveries(ctx context.Context) error {
	err := wire.Do(s.run.calls, s.ac, func() error { return s.ch.Cancel(s.tag, false) })
	if err != nil {
		return s.lost(err)
	}
	s.leaving = true
	before := s.ledger.settled
	if s.deliveries != nil {
		for d := range s.deliveries { // closed by Cancel
			s.arrive(d)
		}
	}
	for _, h := range s.held.all() {
		s.settle(h.tag, h.how)
	}
	s.flush()
	ended := ctx.Done()
	for s.out > 0 && err == nil {
		select {
		case <-s.inbox.arrived:
			s.finishAll()
		case cause := <-s.closed:
			err = closeReason(cause)
		case <-ended: // no further handler begins
			ended = nil
			for _, j := range s.withdraw() {
				s.settle(j.tag, postpone)
				s.run.givenBack++
			}
			s.flush()
		case <-s.run.late:
			err = errLate
		}
	}
	if n := s.ledger.settled - before; err == nil && n > 0 {
		err = s.letSettle(n)
	}
	if err != nil {
		return s.lost(err)
	}
	return nil
}

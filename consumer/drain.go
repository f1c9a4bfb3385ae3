package consumer

import "context"

// drain shuts the session down without losing a settlement or counting a failure. Its error is a *LostError.
//
// RabbitMQ's channel passes about 32 settlements at a time to a quorum queue and keeps the others until the queue's
// leader has applied those. Closing the channel discards the others: their messages are requeued and counted as
// failed, although they were acknowledged. Two measures prevent that. Before it answers a basic.cancel of an active
// consumer, RabbitMQ passes on all earlier settlements and waits for the leader. No other call does that after the
// basic.cancel. So for settlements sent later, drain makes a call, whose answer proves that the broker has read them,
// and then waits some milliseconds for the queue to apply them.
//
// handOver drains an ordered session instead.
func (s *session) drain() error {
	waiting := s.withdraw()
	s.finishAll() // before the cancel, which waits for these settlements
	before := s.ledger.settled
	err := s.cancel()
	if err == nil {
		s.ledger.taken = before
		s.requeueWaiting(waiting)
		err = s.finishRunning()
	}
	if n := s.ledger.settled - before; err == nil && n > 0 {
		err = s.letSettle(n)
	}
	if err != nil {
		return s.lost(err)
	}
	return nil
}

// requeueWaiting requeues deliveries whose handlers have not started, in the queue's order, and settles held deliveries at
// once. The consumer was cancelled before, so they are not redelivered to this session.
func (s *session) requeueWaiting(waiting []job) {
	for _, j := range waiting {
		s.settle(j.tag, putBack)
	}
	if s.deliveries != nil {
		for d := range s.deliveries { // closed by Cancel or with the channel
			if !s.enter(&d) {
				continue
			}
			s.settle(d.DeliveryTag, putBack)
		}
	}
	for _, h := range s.held.all() {
		s.settle(h.tag, h.how)
	}
	s.flush()
}

// finishRunning settles the deliveries of running handlers as they return, until the drain timeout and overtime have
// elapsed. An error means that the channel was closed.
func (s *session) finishRunning() error {
	for s.out > 0 {
		select {
		case <-s.results.arrived:
			s.finishAll()
		case err := <-s.closed:
			return closeReason(err)
		case <-s.state.shutdown.late:
			// The answer to cancel may have arrived after late; collect the results of handlers that have returned
			// since then.
			s.finishAll()
			return nil
		}
	}
	return nil
}

// finishDeliveries cancels the consumer, waits for the handlers of its deliveries and settles them, so that no
// settlement is lost and no message counted as failed. See drain for the order of cancel, settlements and close. Held
// deliveries are settled at once. Its error is a *LostError.
func (s *session) finishDeliveries(ctx context.Context) error {
	err := s.cancel()
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
		case <-s.results.arrived:
			s.finishAll()
		case cause := <-s.closed:
			err = closeReason(cause)
		case <-ended: // no further handler starts
			ended = nil
			for _, j := range s.withdraw() {
				s.settle(j.tag, putBack)
			}
			s.flush()
		case <-s.state.shutdown.late:
			err = errDrainTimeout
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

package consumer

import "context"

// drain ends the session in the order that loses no settlement and counts no failure. Its
// error is a *LostError.
//
// RabbitMQ's channel hands a quorum queue about 32 settlements at a time and keeps the rest
// until the queue's leader has applied those. Closing the channel throws the rest away: the
// messages return to the queue, counted as failed, although they were acknowledged. Two
// things are known to prevent it. basic.cancel of a live consumer passes on all settlements
// and waits for the leader before it is answered: it covers whatever was settled before.
// After it no call of the protocol does the same. Settlements sent later are made sure to have
// arrived, by a call that is answered after them, and then given time: the broker needs a few
// milliseconds.
//
// A session whose order matters is drained by handOver.
func (s *session) drain() error {
	waiting := s.withdraw()
	s.finishAll() // to have it covered by the cancel
	before := s.ledger.settled
	err := s.cancel()
	if err == nil {
		s.ledger.taken = before
		s.giveBack(waiting)
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

// giveBack returns deliveries without a handler, in the queue's order, and settles held ones
// at once. The consumer is cancelled, so that this session does not receive them again.
func (s *session) giveBack(waiting []job) {
	for _, j := range waiting {
		s.settle(j.tag, putBack)
	}
	if s.deliveries != nil {
		for d := range s.deliveries { // closed by Cancel, or along with the channel
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

// finishRunning settles the running handlers' deliveries as they return, until the drain time
// and the overtime are over. An error means that the channel is gone.
func (s *session) finishRunning() error {
	for s.out > 0 {
		select {
		case <-s.results.arrived:
			s.finishAll()
		case err := <-s.closed:
			return closeReason(err)
		case <-s.state.shutdown.late:
			// The cancel before may have been answered later than that: whoever returned meanwhile
			// could not hand its result over.
			s.finishAll()
			return nil
		}
	}
	return nil
}

// finishDeliveries cancels the consumer, finishes its deliveries in order and settles them, so that RabbitMQ loses and counts none. See
// drain for the order of cancel, settlements and close. Held deliveries are settled at once. Its error is a *LostError.
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
		case <-ended: // no further handler begins
			ended = nil
			for _, j := range s.withdraw() {
				s.settle(j.tag, putBack)
			}
			s.flush()
		case <-s.state.shutdown.late:
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

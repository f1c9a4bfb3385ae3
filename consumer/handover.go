package consumer

import (
	"slices"
	"time"
)

// nearLimit is the count of failed deliveries from which a returned message is reported: half of a quorum
// queue's default delivery limit.
const nearLimit = 10

// handOver drains a session whose order matters: a successor starts only after the last handler has returned,
// and continues in order. Its error is a *LostError.
//
// A cancelled consumer hands the queue over at once, and a message that is put back before the cancel returns to
// this consumer, behind later ones. Only closing the channel puts back and hands over in one step, and
// then a quorum queue counts each message that was put back as failed. So as few as possible are put back: nothing
// is settled, so that at most the prefetch is delivered, and the workers finish it if Config.DrainTimeout is enough.
//
// A handler that puts its message back at the shutdown, as an interrupted wait does, ends that: messages behind it are put
// back with it.
//
// With everything finished and the prefetch full, no delivery is on its way, and the cancel puts nothing
// back. The settlements follow it: before it they would make room for more deliveries. In any other case
// the settlements come first and the channel is closed without a cancel.
func (s *session) handOver() error {
	s.withhold = true
	deadline := s.state.shutdown.deadline()
	if first, ok := s.ledger.oldest(); ok { // which must be settled before the consumer timeout, too
		timeout := s.state.cfg.consumerTimeout()
		if due := first.at.Add(timeout - timeout/10); due.Before(deadline) {
			deadline = due
		}
	}
	s.state.dispatcher.finish(deadline)
	left, err := s.finishReceived()
	if err != nil {
		return err
	}
	putBack := slices.ContainsFunc(s.other, func(o order) bool { return o.how == postpone })
	if len(left) == 0 && s.out == 0 && !putBack && s.ledger.open >= s.ledger.window {
		err = s.settleAfterCancel()
	} else {
		err = s.settleBeforeClose(left)
	}
	if err != nil {
		return s.lost(err)
	}
	return nil
}

// finishReceived has the workers finish everything received, or returns the deliveries that they have no time for. It
// also waits until the broker has applied earlier settlements and the deliveries that these make room for have
// arrived. Its error is a *LostError.
func (s *session) finishReceived() (left []job, err error) {
	rest := time.Duration(0)
	if n := s.ledger.inDoubt(); n > 0 {
		rest = time.Until(s.ledger.last.Add(timeFor(n)))
	}
	applied := time.NewTimer(max(0, rest))
	defer applied.Stop()
	s.finishAll()
	for waits := true; ; {
		if s.state.dispatcher.stops() {
			left = append(left, s.withdraw()...)
		}
		if !waits && s.out == 0 {
			return left, nil
		}
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				s.deliveries = nil // one of the next two tells why
				continue
			}
			s.arrive(d)
		case _, ok := <-s.cancelled:
			if ok {
				return left, s.lost(nil)
			}
			s.cancelled = nil // closed along with the channel
		case err := <-s.closed:
			return left, s.lost(closeReason(err))
		case <-s.results.arrived:
			s.finishAll()
		case <-applied.C:
			waits = false
		case <-s.state.shutdown.late:
			s.finishAll()
			return append(left, s.withdraw()...), nil
		}
	}
}

// settleAfterCancel cancels a consumer whose deliveries are all finished, and settles them. The cancel is a barrier for the settlements
// before it.
func (s *session) settleAfterCancel() error {
	before := s.ledger.settled
	if err := s.cancel(); err != nil {
		return err
	}
	s.ledger.taken = before
	s.withhold = false
	s.giveBack(nil)
	return s.letSettle(s.ledger.settled - before)
}

// settleBeforeClose settles finished deliveries. Everything else is put back by the close of the channel that
// follows, postponed and failed deliveries included: returned earlier, they would be delivered
// to this consumer again. Only a queue that delays failed messages itself needs the settlement of RejectRequeue.
func (s *session) settleBeforeClose(left []job) error {
	s.withhold = false
	later := s.other
	s.other = nil
	for _, h := range s.held.all() {
		later = append(later, order{h.tag, h.how})
	}
	for _, o := range later {
		if o.how == reject || o.how == failNow {
			s.settle(o.tag, o.how)
		}
	}
	frames := s.flush()
	s.totals.returned += s.ledger.open - s.out
	s.warnOfLimit(left)
	switch {
	case frames == 0:
		return nil
	case frames > settledAtOnce:
		if err := s.letSettle(frames); err != nil {
			return err
		}
	}
	// Until the queue answers, the close would throw the settlements away.
	for {
		there, err := s.reachesQueue()
		if err != nil || there {
			return err
		}
		select {
		case <-s.state.shutdown.late:
			return errNoLeader
		default:
		}
		if err := s.pause(settleTime); err != nil {
			return err
		}
	}
}

// warnOfLimit reports the message that the close brings nearest to its delivery limit.
func (s *session) warnOfLimit(left []job) {
	var most job
	count := 0
	for _, j := range left {
		if n, ok := deliveryCount(j.d.Headers); ok && j.d.Redelivered && n+1 > count {
			most, count = j, n+1
		}
	}
	if count >= nearLimit {
		s.log.WarnContext(s.state.ctx(), "consumer: Config.DrainTimeout was too short for all deliveries; a quorum queue counts each requeued one as failed; "+
			"raise its x-delivery-limit (20 by default) or Config.DrainTimeout, or lower Config.Prefetch",
			"returned", len(left), "message_id", most.d.MessageId, "delivery_count", count)
	}
}

package consumer

import (
	"slices"
	"time"
)

// nearLimit is the count of failed deliveries from which a requeued message is logged: half of a quorum queue's
// default delivery limit.
const nearLimit = 10

// handOver drains an ordered session: a successor starts only after the last handler has returned, and continues in
// order. Its error is a *LostError.
//
// A cancelled consumer hands the queue over at once. A message that is requeued before the cancel is redelivered to
// this consumer, behind later ones. Only closing the channel requeues and hands over in one step, but a quorum queue
// counts each message requeued that way as failed. To requeue as few as possible, handOver first settles nothing, so
// that at most the prefetch is delivered, and lets the workers finish these if Config.DrainTimeout is long enough.
//
// If a handler requeues its message at shutdown, for example after an interrupted wait, the workers stop, and the
// messages behind it are requeued with it.
//
// If every delivery is finished and the prefetch is full, no delivery is in transit, and the cancel requeues nothing.
// The settlements then follow the cancel, because before it they would make room for more deliveries. In any other
// case the settlements are sent first and the channel is closed without a cancel.
func (s *session) handOver() error {
	s.withhold = true
	deadline := s.state.shutdown.deadline()
	if first, ok := s.ledger.oldest(); ok { // it must also be settled before the consumer timeout
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

// finishReceived lets the workers finish all received deliveries, and returns the deliveries for which the time is
// too short. It also waits until the broker has applied earlier settlements and has sent the deliveries for which
// these make room. Its error is a *LostError.
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
				s.deliveries = nil // cancelled or closed reports the reason
				continue
			}
			s.arrive(d)
		case _, ok := <-s.cancelled:
			if ok {
				return left, s.lost(nil)
			}
			s.cancelled = nil // closed with the channel
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

// settleAfterCancel cancels a consumer whose deliveries are all finished, and settles them. The cancel waits for the
// settlements before it.
func (s *session) settleAfterCancel() error {
	before := s.ledger.settled
	if err := s.cancel(); err != nil {
		return err
	}
	s.ledger.taken = before
	s.withhold = false
	s.requeueWaiting(nil)
	return s.letSettle(s.ledger.settled - before)
}

// settleBeforeClose settles finished deliveries. Closing the channel then requeues all others, including postponed
// and failed ones: requeued earlier, they would be redelivered to this consumer. Only RejectRequeue needs its
// settlement, for queues that delay failed messages.
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
	// Until the queue answers, closing the channel would discard the settlements.
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

// warnOfLimit logs the message that the close brings nearest to its delivery limit.
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

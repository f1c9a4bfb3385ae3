package consumer

import (
	"context"
	"time"
)

// consume runs the session until it is lost or, after the end of ctx, drained. Its error is a *LostError, or nil
// after a drain. passed reports that the session passed its trial; consume may then be called again.
func (s *session) consume(ctx context.Context) (passed bool, err error) {
	var trial <-chan time.Time
	if s.trial != nil {
		t := time.NewTicker(provenAfter / 4)
		defer t.Stop()
		trial = t.C
	}
	for {
		if ctx.Err() != nil { // checked first, because select might choose a delivery
			return false, s.shutDown()
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
				return false, s.lost(nil)
			}
			s.cancelled = nil // closed with the channel
		case err := <-s.closed:
			return false, s.lost(closeReason(err))
		case d, ok := <-s.first.deliveries:
			if !ok {
				s.first.deliveries = nil
			} else if err := s.first.arrive(&d, &s.channel); err != nil {
				return false, s.lost(err)
			}
		case <-s.results.arrived:
			s.finishAll()
		case now := <-s.timer.C:
			s.release(now)
		case <-s.proof.timer.C:
			if err := s.proof.step(&s.ledger, s.reachesQueue); err != nil { // s.closed reports it
				s.log.DebugContext(s.state.ctx(), "consumer: settlements not confirmed", "error", err)
			}
		case now := <-s.overdue.C:
			s.overdue.Reset(s.warnOverdue(now))
		case now := <-trial:
			if s.passed(now) {
				return true, nil
			}
		case <-ctx.Done():
		}
	}
}

// shutDown drains the session. Its error is a *LostError.
func (s *session) shutDown() error {
	s.draining = true
	if s.state.cfg.ordered() {
		return s.handOver()
	}
	return s.drain()
}

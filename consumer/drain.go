package consumer

import (
	"time"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// settleTime is how long the broker gets to apply settlements before the channel is closed.
const settleTime = 100 * time.Millisecond

// drain ends the session in the order that loses no settlement and counts no failure.
//
// RabbitMQ's channel hands a quorum queue about 32 settlements at a time and keeps the rest
// until the queue's leader has applied those. Closing the channel throws the rest away: the
// messages return to the queue, counted as failed, although they were acknowledged. Two
// things are known to prevent it. basic.cancel of a live consumer passes on all settlements
// and waits for the leader before it is answered: it covers whatever was settled before.
// After it no call of the protocol does the same, so that settlements sent later are only
// given time: the broker needs a few milliseconds.
func (s *session) drain() {
	s.draining = true
	s.finishPending()
	cancelled := time.Now()
	err := wire.Do(s.run.calls, s.ac, func() error { return s.ch.Cancel(s.tag, false) })
	if err == nil {
		s.giveBack()
		err = s.finishRunning()
	}
	if err == nil && s.settledAt.After(cancelled) {
		err = s.letSettle()
	}
	if err != nil {
		s.log.Info("consumer: subscription lost while draining, what is not settled will be delivered again", "err", err)
	}
}

// finishPending settles what handlers have finished by now, to have it covered by the cancel.
func (s *session) finishPending() {
	for {
		select {
		case res := <-s.results:
			s.finish(res)
		default:
			return
		}
	}
}

// giveBack returns what no handler has begun, in the queue's order, and settles at once what
// is held. The consumer is cancelled, so that nothing of it comes back to this session.
func (s *session) giveBack() {
	for _, d := range s.backlog {
		s.settle(d, postpone)
	}
	s.backlog = nil
	if s.deliveries != nil {
		for d := range s.deliveries { // closed by Cancel, or along with the channel
			s.settle(s.delivery(d), postpone)
		}
	}
	for _, h := range s.held.all() {
		s.settle(h.d, h.how)
	}
}

// finishRunning settles the running handlers' deliveries as they return, until the drain time
// and the overtime are over. An error means that the channel is gone.
func (s *session) finishRunning() error {
	for s.running > 0 {
		select {
		case res := <-s.results:
			s.finish(res)
		case err := <-s.closed:
			return s.lost(err)
		case <-s.run.late:
			return nil
		}
	}
	return nil
}

func (s *session) letSettle() error {
	t := time.NewTimer(settleTime)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case err := <-s.closed:
		return s.lost(err)
	}
}

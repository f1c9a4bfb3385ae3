package consumer

import (
	"time"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// settleTime is how long the broker gets to apply settlements before the channel is closed,
// with settleEach added for each of them.
const (
	settleTime = 100 * time.Millisecond
	settleEach = 200 * time.Microsecond
)

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
	s.draining = true
	if s.run.cfg.ordered() {
		return s.handOver()
	}
	waiting := s.withdraw()
	s.run.settled += s.finishAll() // to have it covered by the cancel
	before := s.ledger.settled
	err := wire.Do(s.run.calls, s.ac, func() error { return s.ch.Cancel(s.tag, false) })
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
		s.settle(j.tag, postpone)
		s.run.givenBack++
	}
	if s.deliveries != nil {
		for d := range s.deliveries { // closed by Cancel, or along with the channel
			if !s.enter(&d) {
				continue
			}
			s.settle(d.DeliveryTag, postpone)
			s.run.givenBack++
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
		case <-s.inbox.arrived:
			s.run.settled += s.finishAll()
		case err := <-s.closed:
			return closeReason(err)
		case <-s.run.late:
			// The cancel before may have been answered later than that: whoever returned meanwhile
			// could not hand its result over.
			s.run.settled += s.finishAll()
			return nil
		}
	}
	return nil
}

// letSettle waits until the broker has n settlements, and then as long as it may need for them.
// Time alone would not do: on a link that stalls they would arrive together with the close.
func (s *session) letSettle(n int) error {
	if err := s.arrived(); err != nil {
		return err
	}
	return s.pause(timeFor(n))
}

// arrived returns when the broker has read everything sent before, because it answers in order.
func (s *session) arrived() error {
	return wire.Do(s.run.calls, s.ac, func() error { return s.ch.Qos(s.run.cfg.Prefetch, 0, false) })
}

// timeFor is how long the broker may take to apply n settlements that it has read. Only quorum queues need the
// time, and they deliver at most 2000.
func timeFor(n int) time.Duration { return settleTime + time.Duration(min(n, 2000))*settleEach }

// pause returns after d. An error means that the channel is gone.
func (s *session) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case err := <-s.closed:
		return closeReason(err)
	}
}

package producer

import (
	"math"
	"slices"
	"time"
)

// sweepEvery bounds how long a confirm may go unnoticed behind an older message that is still
// unconfirmed: the resolver waits for the oldest, and looks at all this often.
const sweepEvery = 5 * time.Millisecond

// resolve gives every sent message its outcome, and ends when the sender has ended and every
// confirmation is in. amqp091-go fails the missing ones when the channel closes.
func (s *session) resolve() {
	defer close(s.resolved)
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	var flight []*Receipt // in the order of sending
	var head *Receipt     // the oldest, waiting
	var since time.Time   // from this time
	for sending := true; sending || len(flight) > 0; {
		var oldest <-chan struct{}
		var tick <-chan time.Time
		if len(flight) > 0 {
			oldest, tick = flight[0].confirmed(), sweep.C
		}
		sent := s.sent
		if !sending {
			sent = nil
		}
		select {
		case r, ok := <-sent:
			if !ok {
				sending = false
				continue
			}
			flight = append(flight, r)
		case <-oldest:
			// A confirm is often one of many messages: those behind it follow without a wait.
			n := 0
			for n < len(flight) && flight[n].isConfirmed() {
				s.settle(flight[n])
				n++
			}
			clear(flight[:n])
			flight = flight[n:]
		case <-tick:
			for _, r := range flight {
				if r.isConfirmed() {
					s.settle(r)
				}
			}
			flight = slices.DeleteFunc(flight, func(r *Receipt) bool { return r.settled })
			// The clock starts anew with each head: what was confirmed before it shows that the
			// link is only slow. What is confirmed behind it shows that the broker has it.
			switch now := time.Now(); {
			case len(flight) == 0:
			case head != flight[0] || s.gate.Err() != nil:
				head, since = flight[0], now
			case now.Sub(since) > s.p.cfg.ConfirmTimeout && s.overdue.IsZero():
				s.overdue = now
				close(s.expired)
			}
		}
		s.p.window.finishAll(s.acked)
		clear(s.acked) // so that no finished message is kept
		s.acked = s.acked[:0]
	}
}

// tag is the message's place in the session.
func (r *Receipt) tag() uint64 {
	if r.confirm == nil { // its sending failed and was the last
		return math.MaxUint64
	}
	return r.confirm.DeliveryTag
}

var closedChan = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// confirmed is closed when the broker has answered, or cannot any more.
func (r *Receipt) confirmed() <-chan struct{} {
	if r.confirm == nil {
		return closedChan
	}
	return r.confirm.Done()
}

func (r *Receipt) isConfirmed() bool {
	select {
	case <-r.confirmed():
		return true
	default:
		return false
	}
}

// settle gives r, whose confirmation is in, its outcome, or notes it as lost.
//
// A false confirmation means a nack only while the channel is open: amqp091-go marks the
// channel closed before it fails what is outstanding. A return comes before its ack, and
// was put into s.returns before the confirmation was resolved; it counts also when the ack
// is missing, since the broker had decided.
func (s *session) settle(r *Receipt) {
	w := s.p.window
	r.settled = true
	ret := s.returnOf(r)
	switch {
	case ret != nil:
		w.finish(r, r.failure(ret, nil))
	case r.confirm == nil:
		s.lost = append(s.lost, r)
	case r.confirm.Acked():
		s.acked = append(s.acked, r)
	case !s.ch.IsClosed():
		w.finish(r, r.failure(ErrNacked, nil))
	default:
		s.lost = append(s.lost, r)
	}
}

// returnOf takes the basic.return of r out of those that came, or returns nil.
func (s *session) returnOf(r *Receipt) *ReturnedError {
	for {
		select {
		case ret, ok := <-s.returns:
			if ok {
				s.returned = append(s.returned, ret)
				continue
			}
		default:
		}
		break
	}
	if n := len(s.returned) - cap(s.returns); n > 0 {
		s.returned = slices.Delete(s.returned, 0, n) // older than any message in flight
	}
	for i, ret := range s.returned {
		if isReturnOf(&ret, r) {
			s.returned = slices.Delete(s.returned, i, i+1)
			return &ReturnedError{Code: int(ret.ReplyCode), Text: ret.ReplyText, Exchange: ret.Exchange, Key: ret.RoutingKey}
		}
	}
	return nil
}

package producer

import (
	"math"
	"slices"
	"time"
)

// A flight holds the sent messages of a session in the order of their delivery tags, from the oldest one without an outcome on.
type flight struct {
	first    uint64     // delivery tag of receipts[0], or of the next message if the flight is empty
	receipts []*Receipt // nil entries have their outcomes
}

// resolve gives every sent message its outcome. It returns after the sender has returned and every confirmation is known.
// amqp091-go fails the missing ones when the channel closes.
//
// Confirms mostly arrive in the order of sending, and one often covers many messages. So resolve waits for the oldest
// message and then settles the ones behind it that are confirmed too. The confirm of a fast queue may overtake the
// confirms of a slow one. s.confirms reports its delivery tag.
func (s *session) resolve() {
	defer close(s.resolved)
	defer s.confirms.Close()
	overdue := time.NewTicker(max(s.p.cfg.ConfirmTimeout/256, 5*time.Millisecond)) // the precision of ConfirmTimeout
	defer overdue.Stop()
	f := flight{first: 1}
	var tags []uint64   // from s.confirms
	var reported uint64 // the highest tag
	var oldestSince confirmClock
	for sending := true; sending || len(f.receipts) > 0; {
		var oldest <-chan struct{}
		var tick <-chan time.Time
		var sent chan *Receipt
		if len(f.receipts) > 0 {
			oldest, tick = f.receipts[0].confirmed(), overdue.C
		}
		// Messages behind the oldest can wait in s.sent, except one that is known to be confirmed.
		if sending && (len(f.receipts) == 0 || reported >= f.next()) {
			sent = s.sent
		}
		select {
		case r, ok := <-sent:
			if ok {
				s.add(&f, r)
			} else {
				sending = false
			}
		case <-oldest:
		case <-s.confirms.Ready:
			tags = s.confirms.Take(tags)
		case <-tick: // the received time may be old, after a time without messages in flight
			now := time.Now()
			if s.gate.Err() != nil {
				oldestSince.restart(now)
			}
			if oldestSince.elapsed(f.first, now) > s.p.cfg.ConfirmTimeout && s.overdue.IsZero() {
				s.overdue = now
				close(s.expired)
			}
		}
		for range len(s.sent) { // the resolver alone receives from it
			s.add(&f, <-s.sent)
		}
		for _, tag := range tags {
			reported = max(reported, tag)
			if i := tag - f.first; tag >= f.first && i < uint64(len(f.receipts)) && f.receipts[i] != nil && f.receipts[i].isConfirmed() {
				s.settle(f.receipts[i])
				f.receipts[i] = nil
			}
		}
		tags = tags[:0]
		s.settleOldest(&f)
		s.worked = s.worked || len(s.acked) > 0
		s.p.window.finishAll(s.acked)
		clear(s.acked) // for the garbage collector
		s.acked = s.acked[:0]
	}
}

// A confirmClock measures how long a message has been the oldest one. It starts again with each message: confirms of
// older ones show that the link is only slow, and confirms of younger ones show that the broker has the message.
type confirmClock struct {
	tag   uint64
	since time.Time
}

func (c *confirmClock) elapsed(oldest uint64, now time.Time) time.Duration {
	if oldest != c.tag {
		c.tag = oldest
		c.restart(now)
	}
	return now.Sub(c.since)
}

func (c *confirmClock) restart(now time.Time) { c.since = now }

func (f *flight) next() uint64 { return f.first + uint64(len(f.receipts)) }

// add puts r into the flight. Its confirm may have been reported before.
func (s *session) add(f *flight, r *Receipt) {
	if r.isConfirmed() {
		s.settle(r)
		r = nil
	}
	f.receipts = append(f.receipts, r)
}

// settleOldest settles the oldest messages up to the first one that is not confirmed.
func (s *session) settleOldest(f *flight) {
	n := 0
	for ; n < len(f.receipts); n++ {
		r := f.receipts[n]
		if r == nil {
			continue
		}
		if !r.isConfirmed() {
			break
		}
		s.settle(r)
	}
	if n > 0 {
		clear(f.receipts[:n])
		f.receipts = f.receipts[n:]
		f.first += uint64(n) //nolint:gosec // not negative
		s.confirms.SetOldest(f.first)
	}
}

// tag returns the delivery tag of the message.
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

// settle gives r its outcome after its confirmation is complete, or adds it to s.lost.
//
// A false confirmation means a nack only while the channel is open: amqp091-go marks the
// channel closed before it fails the outstanding confirmations. A return precedes its ack, so it is in s.returns before
// the confirmation is complete. It is the outcome even if the ack is missing.
func (s *session) settle(r *Receipt) {
	w := s.p.window
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

// returnOf removes the basic.return of r from the received ones and returns it, or nil.
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

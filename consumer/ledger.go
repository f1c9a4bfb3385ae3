package consumer

import "time"

// A ledger holds what a session was delivered and has not settled, and how many of its
// settlements the broker is known to have taken.
type ledger struct {
	open    map[uint64]arrival // by delivery tag
	window  int                // the prefetch: as many the broker leaves unsettled at most
	settled int                // settlements sent, or tried to
	taken   int                // the first so many of them are known to have arrived
	last    time.Time          // when the last one was sent
	end     int64              // of a stream: the offset behind the last delivery
}

// An arrival is a delivery as it came, before a handler could change it.
type arrival struct {
	at        time.Time
	messageID string
	offset    int64 // of a stream
}

// delivered enters a delivery. It also tells of the earlier ones: tags count up from one, settlements
// are taken in order, and of tag deliveries the broker leaves no more than window unsettled.
func (l *ledger) delivered(tag uint64, a arrival) {
	l.open[tag] = a
	l.taken = max(l.taken, int(tag)-l.window) //nolint:gosec // a channel does not see 2^63 deliveries
	l.end = a.offset + 1
}

func (l *ledger) settle(tag uint64, now time.Time) {
	delete(l.open, tag)
	l.settled++
	l.last = now
}

// inDoubt returns how many settlements may not have reached the broker when the link is lost at
// now. One sent longer than dead ago has: by then a link that takes nothing is known to be lost.
func (l *ledger) inDoubt(now time.Time, dead time.Duration) int {
	if dead > 0 && now.Sub(l.last) > dead {
		return 0
	}
	return l.settled - l.taken
}

// idle returns for how long nothing has been unsettled.
func (l *ledger) idle(now time.Time) time.Duration {
	if len(l.open) > 0 {
		return 0
	}
	return now.Sub(l.last)
}

// oldest returns the arrival that has waited longest to be settled.
func (l *ledger) oldest() (first arrival, ok bool) {
	for _, a := range l.open {
		if !ok || a.at.Before(first.at) {
			first, ok = a, true
		}
	}
	return first, ok
}

// unread returns the first offset of a stream that is not settled.
func (l *ledger) unread() int64 {
	next := l.end
	for _, a := range l.open {
		next = min(next, a.offset)
	}
	return next
}

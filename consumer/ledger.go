package consumer

import (
	"iter"
	"time"
)

// A ledger holds what a session was delivered and has not settled, and how many of its
// settlements the broker is known to have taken.
type ledger struct {
	lines   fifo[line]       // the newest, as many as the prefetch and some
	gone    uint64           // delivery tags before them
	late    map[uint64]*line // those of them that are not closed
	open    int              // lines that are not settled
	window  int              // the prefetch: as many the broker leaves unsettled at most
	settled int              // settlements sent, or tried to
	taken   int              // the first so many of them are known to have arrived
	last    time.Time        // when the last one was sent
	end     int64            // of a stream: the offset behind the last delivery
}

// A line is a delivery, by its tag.
type line struct {
	arrival
	state lineState
}

type lineState uint8

const (
	open     lineState = iota // not settled
	finished                  // to be acknowledged by the next call of acks
	closed                    // settled
)

// An arrival is a delivery as it came, before a handler could change it.
type arrival struct {
	at        time.Time
	messageID string
	offset    int64 // of a stream
}

// delivered enters a delivery. It also tells of the earlier ones: tags count up from one, settlements
// are taken in order, and of tag deliveries the broker leaves no more than window unsettled. It
// returns false for a tag that cannot be.
func (l *ledger) delivered(tag uint64, a arrival) bool {
	if tag != l.gone+uint64(l.lines.len())+1 { //nolint:gosec // a length is not negative
		return false
	}
	l.lines.push(line{a, open})
	for l.lines.len() > 2*l.window+64 {
		l.retire()
	}
	l.open++
	l.taken = max(l.taken, int(tag)-l.window) //nolint:gosec // a channel does not see 2^63 deliveries
	l.end = a.offset + 1
	return true
}

// retire makes room behind a delivery that stays open for long.
func (l *ledger) retire() {
	x := l.lines.pop()
	l.gone++
	if x.state != closed {
		if l.late == nil {
			l.late = map[uint64]*line{}
		}
		l.late[l.gone] = &x
	}
}

// line returns the line of a tag, or nil if that is closed for long.
func (l *ledger) line(tag uint64) *line {
	if tag <= l.gone {
		return l.late[tag]
	}
	return l.lines.at(int(tag - l.gone - 1)) //nolint:gosec // not more than there are lines
}

// settle enters a settlement by itself.
func (l *ledger) settle(tag uint64, now time.Time) {
	l.close(tag, now)
	l.trim()
}

func (l *ledger) close(tag uint64, now time.Time) {
	*l.line(tag) = line{state: closed}
	delete(l.late, tag)
	l.open--
	l.settled++
	l.last = now
}

// finish enters that a delivery is to be acknowledged.
func (l *ledger) finish(tag uint64) { l.line(tag).state = finished }

// acks enters acknowledgements for these finished deliveries, and tells which to send: as one for
// all up to a tag as far as nothing else is open there, else one for each.
func (l *ledger) acks(tags []uint64, now time.Time, send func(tag uint64, multiple bool)) {
	var run uint64 // the last of those in the run
	n := 0         // as many
	for i := range l.lines.len() {
		if len(l.late) > 0 {
			break
		}
		if s := l.lines.at(i).state; s == finished {
			run = l.gone + uint64(i) + 1 //nolint:gosec // an index is not negative
			n++
		} else if s != closed {
			break
		}
	}
	if n > 0 {
		send(run, n > 1)
	}
	for _, tag := range tags {
		if tag > run {
			send(tag, false)
		}
		l.close(tag, now)
	}
	l.trim()
}

// trim forgets what is settled, up to the first that is not.
func (l *ledger) trim() {
	n := 0
	for n < l.lines.len() && l.lines.at(n).state == closed {
		n++
	}
	l.lines.drop(n)
	l.gone += uint64(n) //nolint:gosec // n is not negative
}

// inDoubt returns how many settlements may not have reached the queue when the link is lost. A later
// delivery proves them, or else the session's proof. A node that has read a settlement
// keeps it while the queue's leader is unreachable, and throws it away with the channel.
func (l *ledger) inDoubt() int { return l.settled - l.taken }

// idle returns for how long nothing has been unsettled.
func (l *ledger) idle(now time.Time) time.Duration {
	if l.open > 0 {
		return 0
	}
	return now.Sub(l.last)
}

// oldest returns the arrival that has waited longest to be settled.
func (l *ledger) oldest() (first arrival, ok bool) {
	for x := range l.unsettled() {
		if !ok || x.at.Before(first.at) {
			first, ok = x.arrival, true
		}
	}
	return first, ok
}

// unread returns the first offset of a stream that is not settled.
func (l *ledger) unread() int64 {
	next := l.end
	for x := range l.unsettled() {
		next = min(next, x.offset)
	}
	return next
}

// unsettled yields the lines that are open.
func (l *ledger) unsettled() iter.Seq[*line] {
	return func(yield func(*line) bool) {
		for _, x := range l.late {
			if x.state == open && !yield(x) {
				return
			}
		}
		for i := range l.lines.len() {
			if x := l.lines.at(i); x.state == open && !yield(x) {
				return
			}
		}
	}
}

package consumer

import (
	"iter"
	"time"
)

// A ledger records a session's unsettled deliveries, and how many of its settlements the broker has certainly
// applied.
type ledger struct {
	entries fifo[entry]       // the newest deliveries, some more than the prefetch
	dropped uint64            // the number of deliveries before entries
	late    map[uint64]*entry // the unsettled ones among the dropped, by delivery tag
	open    int               // unsettled deliveries
	window  int               // the prefetch, which is the maximum number of unsettled deliveries
	settled int               // settlements sent, including failed sends
	taken   int               // the number of settlements that have certainly arrived
	last    time.Time         // when the last settlement was sent
	end     int64             // the stream offset after the last delivery
}

// An entry is a delivery in the ledger.
type entry struct {
	arrival
	state entryState
}

type entryState uint8

const (
	open     entryState = iota // not settled
	finished                   // the next call of acks acknowledges it
	closed                     // settled
)

// An arrival is a delivery as received, before a handler could change it.
type arrival struct {
	at        time.Time
	messageID string
	offset    int64 // the stream offset
}

// delivered records a delivery. The delivery also proves earlier settlements: tags increase by one, the broker
// applies settlements in order, and it leaves at most window of the first tag deliveries unsettled. delivered returns
// false for an invalid tag.
func (l *ledger) delivered(tag uint64, a arrival) bool {
	if tag != l.dropped+uint64(l.entries.len())+1 { //nolint:gosec // a length is not negative
		return false
	}
	l.entries.push(entry{a, open})
	for l.entries.len() > 2*l.window+64 {
		l.dropOldest()
	}
	l.open++
	l.taken = max(l.taken, int(tag)-l.window) //nolint:gosec // a channel does not see 2^63 deliveries
	l.end = a.offset + 1
	return true
}

// dropOldest drops the oldest entry, and moves it to late if it is not settled.
func (l *ledger) dropOldest() {
	x := l.entries.pop()
	l.dropped++
	if x.state != closed {
		if l.late == nil {
			l.late = map[uint64]*entry{}
		}
		l.late[l.dropped] = &x
	}
}

// entry returns the entry of a tag, or nil if it was settled and dropped.
func (l *ledger) entry(tag uint64) *entry {
	if tag <= l.dropped {
		return l.late[tag]
	}
	return l.entries.at(int(tag - l.dropped - 1)) //nolint:gosec // less than the number of entries
}

// settle records a single settlement.
func (l *ledger) settle(tag uint64, now time.Time) {
	l.close(tag, now)
	l.trim()
}

func (l *ledger) close(tag uint64, now time.Time) {
	*l.entry(tag) = entry{state: closed}
	delete(l.late, tag)
	l.open--
	l.settled++
	l.last = now
}

// finish marks a delivery for acknowledgement.
func (l *ledger) finish(tag uint64) { l.entry(tag).state = finished }

// acks acknowledges finished deliveries. It sends one acknowledgement with multiple set for all tags before the first
// unfinished delivery, and one for each later tag.
func (l *ledger) acks(tags []uint64, now time.Time, send func(tag uint64, multiple bool)) {
	var run uint64 // the last tag of the first acknowledgement
	n := 0         // the number of finished deliveries up to run
	for i := range l.entries.len() {
		if len(l.late) > 0 {
			break
		}
		if s := l.entries.at(i).state; s == finished {
			run = l.dropped + uint64(i) + 1 //nolint:gosec // an index is not negative
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

// trim drops settled entries before the first unsettled one.
func (l *ledger) trim() {
	n := 0
	for n < l.entries.len() && l.entries.at(n).state == closed {
		n++
	}
	l.entries.drop(n)
	l.dropped += uint64(n) //nolint:gosec // n is not negative
}

// inDoubt returns the number of settlements that may not have reached the queue when the connection is lost. A later
// delivery or the session's proof confirms them. A node that has read a settlement keeps it while the queue's leader
// is unreachable, and discards it with the channel.
func (l *ledger) inDoubt() int { return l.settled - l.taken }

// idle returns how long no delivery has been unsettled.
func (l *ledger) idle(now time.Time) time.Duration {
	if l.open > 0 {
		return 0
	}
	return now.Sub(l.last)
}

// oldest returns the oldest unsettled delivery.
func (l *ledger) oldest() (first arrival, ok bool) {
	for x := range l.unsettled() {
		if !ok || x.at.Before(first.at) {
			first, ok = x.arrival, true
		}
	}
	return first, ok
}

// unread returns the first unsettled offset of a stream.
func (l *ledger) unread() int64 {
	next := l.end
	for x := range l.unsettled() {
		next = min(next, x.offset)
	}
	return next
}

// unsettled yields the unsettled entries.
func (l *ledger) unsettled() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, x := range l.late {
			if x.state == open && !yield(x) {
				return
			}
		}
		for i := range l.entries.len() {
			if x := l.entries.at(i); x.state == open && !yield(x) {
				return
			}
		}
	}
}

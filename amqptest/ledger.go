package amqptest

import "slices"

// maxOutstanding is how many unsettled messages of a channel and direction are known by their id.
const maxOutstanding = 1 << 16

// A ledger knows the messages of a channel that are not settled, by their tag.
type ledger struct {
	ids   map[uint64]string
	order []uint64 // the tags as they came, some of them settled meanwhile
}

// add enters a message. If there are too many, the oldest one is forgotten.
func (l *ledger) add(tag uint64, id string) {
	if l.ids == nil {
		l.ids = map[uint64]string{}
	}
	if len(l.order) >= 2*maxOutstanding {
		l.order = slices.DeleteFunc(l.order, func(tag uint64) bool { return !l.has(tag) })
	}
	l.ids[tag] = id
	l.order = append(l.order, tag)
	if len(l.ids) > maxOutstanding {
		delete(l.ids, l.order[0])
	}
	l.trim()
}

func (l *ledger) has(tag uint64) bool {
	_, ok := l.ids[tag]
	return ok
}

// take removes the message of a tag or, with multiple, all up to it (all there are, if it is 0), and calls found
// with each in their order. It returns false if there was none.
func (l *ledger) take(tag uint64, multiple bool, found func(tag uint64, id string)) bool {
	if !multiple {
		id, ok := l.ids[tag]
		if ok {
			delete(l.ids, tag)
			l.trim()
			found(tag, id)
		}
		return ok
	}
	any := false
	for len(l.order) > 0 && (tag == 0 || l.order[0] <= tag) {
		any = true
		oldest := l.order[0]
		id := l.ids[oldest]
		delete(l.ids, oldest)
		l.trim()
		found(oldest, id)
	}
	return any
}

// trim drops what is settled from the front of the order, so that its first tag is outstanding.
func (l *ledger) trim() {
	for len(l.order) > 0 && !l.has(l.order[0]) {
		l.order = l.order[1:]
	}
}

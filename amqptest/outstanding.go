package amqptest

import "slices"

// maxOutstanding is the number of unsettled messages per channel and direction whose ids are remembered.
const maxOutstanding = 1 << 16

// outstanding holds the ids of a channel's unsettled messages by tag.
type outstanding struct {
	ids   map[uint64]string
	order []uint64 // the tags in order, including some that were settled
}

// add adds a message and forgets the oldest one if there are too many.
func (l *outstanding) add(tag uint64, id string) {
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

func (l *outstanding) has(tag uint64) bool {
	_, ok := l.ids[tag]
	return ok
}

// take removes the message with a tag or, with multiple, all messages up to it (all messages if tag is 0). It calls
// found with each in order, and returns false if there was none.
func (l *outstanding) take(tag uint64, multiple bool, found func(tag uint64, id string)) bool {
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

// trim removes settled tags from the front of the order.
func (l *outstanding) trim() {
	for len(l.order) > 0 && !l.has(l.order[0]) {
		l.order = l.order[1:]
	}
}

package broker

import (
	"slices"
	"sort"
)

// A list is a FIFO of entries.
type list struct {
	items []*entry
	head  int
}

func (l *list) len() int { return len(l.items) - l.head }

func (l *list) peek() *entry {
	if l.len() == 0 {
		return nil
	}
	return l.items[l.head]
}

func (l *list) pop() *entry {
	e := l.items[l.head]
	l.items[l.head] = nil
	l.head++
	if l.head > 64 && l.head > len(l.items)/2 {
		l.items = append(l.items[:0], l.items[l.head:]...)
		clear(l.items[len(l.items):cap(l.items)])
		l.head = 0
	}
	return e
}

func (l *list) push(e *entry) { l.items = append(l.items, e) }

// insert returns an entry to its original position.
func (l *list) insert(e *entry) {
	i := l.head + sort.Search(l.len(), func(i int) bool { return l.items[l.head+i].seq > e.seq })
	if i == l.head && l.head > 0 {
		l.head--
		l.items[l.head] = e
		return
	}
	l.items = slices.Insert(l.items, i, e)
}

func (l *list) all() []*entry { return l.items[l.head:] }

// unacked holds the unsettled deliveries of a channel in the order of their tags.
type unacked struct {
	items []*delivery
}

func (u *unacked) push(d *delivery) { u.items = append(u.items, d) }

// take removes and returns the delivery with a tag; with multiple also all before it, or all deliveries if tag is 0. It
// returns nothing for an unknown tag.
func (u *unacked) take(tag uint64, multiple bool) []*delivery {
	if tag == 0 && multiple {
		return u.all()
	}
	i, ok := slices.BinarySearchFunc(u.items, tag, func(d *delivery, tag uint64) int {
		switch {
		case d.tag < tag:
			return -1
		case d.tag > tag:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	if multiple {
		taken := u.items[:i+1]
		u.items = u.items[i+1:]
		return taken
	}
	d := u.items[i]
	if i == 0 {
		u.items[0] = nil
		u.items = u.items[1:]
	} else {
		u.items = slices.Delete(u.items, i, i+1)
	}
	return []*delivery{d}
}

// all removes and returns all deliveries.
func (u *unacked) all() []*delivery {
	taken := u.items
	u.items = nil
	return taken
}

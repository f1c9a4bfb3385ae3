package amqptest

import (
	"bytes"
	"slices"
	"time"
)

// maxDelayed is how much may be on its way in one direction under Delay.
const maxDelayed = 16 << 20

// A queue holds what is to be written to one side of a link, and the events that are then due.
type queue struct {
	pieces []piece
	size   int   // bytes in it
	end    int64 // place in the stream of what is put next
	passed int64 // how much of the stream has been written
	marks  []mark
}

// A piece is some bytes, or the end of the stream.
type piece struct {
	data   []byte
	at     time.Time // when it came
	shared bool      // data is a part of a buffer that will be used again
	ending ending
}

// An ending is how a stream ends.
type ending int

const (
	goesOn ending = iota
	fin           // the sender closed its side
	rst           // the sender reset the connection
	cut           // a fault resets it
)

// A mark is an event that is due when the stream has been written up to a place.
type mark struct {
	event Event
	end   int64
}

// put adds bytes, which must not change until keep is called.
func (q *queue) put(b []byte) {
	q.end += int64(len(b))
	q.size += len(b)
	if n := len(q.pieces); n > 0 && follows(q.pieces[n-1].data, b) {
		last := &q.pieces[n-1]
		last.data = last.data[:len(last.data)+len(b)]
		return
	}
	if len(b) > 0 {
		q.pieces = append(q.pieces, piece{data: b, at: time.Now(), shared: true})
	}
}

// follows tells whether b begins where a ends, in the same array: then the two are one write.
func follows(a, b []byte) bool {
	return len(a) > 0 && len(b) > 0 && cap(a)-len(a) >= len(b) && &a[:len(a)+1][len(a)] == &b[0]
}

// finish adds the end of the stream.
func (q *queue) finish(e ending) {
	q.pieces = append(q.pieces, piece{at: time.Now(), ending: e})
}

// mark adds an event that is due when the next size bytes have been written.
func (q *queue) mark(e Event, size int64) { q.marks = append(q.marks, mark{e, q.end + size}) }

// due takes the marks of all that has been written. They are valid until the next mark.
func (q *queue) due() []mark {
	n := 0
	for n < len(q.marks) && q.marks[n].end <= q.passed {
		n++
	}
	due := q.marks[:n]
	q.marks = q.marks[n:]
	if len(q.marks) == 0 {
		q.marks = due[:0] // the same array again
	}
	return due
}

// keep makes what is left in the queue independent of the buffers that it came from.
func (q *queue) keep() {
	for i := range q.pieces {
		if p := &q.pieces[i]; p.shared {
			p.data, p.shared = bytes.Clone(p.data), false
		}
	}
}

// wrote takes n bytes from the front.
func (q *queue) wrote(n int) {
	q.size -= n
	q.passed += int64(n)
	q.pieces[0].data = q.pieces[0].data[n:]
	if len(q.pieces[0].data) == 0 {
		q.pieces = q.pieces[1:]
	}
}

// discard throws all bytes away, but not the end of the stream. No event comes of them.
func (q *queue) discard() {
	q.pieces = slices.DeleteFunc(q.pieces, func(p piece) bool { return p.ending == goesOn })
	q.size, q.marks = 0, nil
}

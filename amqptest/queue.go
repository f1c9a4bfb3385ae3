package amqptest

import (
	"bytes"
	"slices"
	"time"
)

// maxDelayed is the number of bytes in transit in one direction under Delay.
const maxDelayed = 16 << 20

// A queue holds the bytes to be written to one side of a link, and the events to be reported then.
type queue struct {
	pieces  []piece
	size    int   // bytes in the queue
	end     int64 // stream position after the queued bytes
	passed  int64 // stream position after the written bytes
	pending []pendingEvent
}

// A piece is a run of bytes or the end of the stream.
type piece struct {
	data   []byte
	at     time.Time // arrival
	shared bool      // data aliases a buffer that will be reused
	end    streamEnd
}

// A streamEnd is how a stream ends.
type streamEnd int

const (
	open streamEnd = iota
	fin            // the sender closed its side
	rst            // the sender reset the connection
	cut            // a fault resets the connection
)

// A pendingEvent is reported when the stream has been written up to a position.
type pendingEvent struct {
	event Event
	end   int64
}

// put adds bytes, which must not change until own is called.
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

// follows reports whether b directly follows a in the same array, so that one write can send both.
func follows(a, b []byte) bool {
	return len(a) > 0 && len(b) > 0 && cap(a)-len(a) >= len(b) && &a[:len(a)+1][len(a)] == &b[0]
}

// finish adds the end of the stream.
func (q *queue) finish(e streamEnd) {
	q.pieces = append(q.pieces, piece{at: time.Now(), end: e})
}

// expect adds an event that is due when the next size bytes have been written.
func (q *queue) expect(e Event, size int64) {
	q.pending = append(q.pending, pendingEvent{e, q.end + size})
}

// due removes and returns the events of everything that has been written. The result is valid until the next expect.
func (q *queue) due() []pendingEvent {
	n := 0
	for n < len(q.pending) && q.pending[n].end <= q.passed {
		n++
	}
	due := q.pending[:n]
	q.pending = q.pending[n:]
	if len(q.pending) == 0 {
		q.pending = due[:0] // reuse the array
	}
	return due
}

// own copies queued bytes that alias a buffer.
func (q *queue) own() {
	for i := range q.pieces {
		if p := &q.pieces[i]; p.shared {
			p.data, p.shared = bytes.Clone(p.data), false
		}
	}
}

// wrote removes n bytes from the front.
func (q *queue) wrote(n int) {
	q.size -= n
	q.passed += int64(n)
	q.pieces[0].data = q.pieces[0].data[n:]
	if len(q.pieces[0].data) == 0 {
		q.pieces = q.pieces[1:]
	}
}

// drop discards all bytes and their events, but keeps the end of the stream.
func (q *queue) drop() {
	q.pieces = slices.DeleteFunc(q.pieces, func(p piece) bool { return p.end == open })
	q.size, q.pending = 0, nil
}

package producer

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// state is where a message is on its way. It only goes forward, except that a message to be
// sent again goes from sent to queued.
type state int

const (
	waiting state = iota // for room in the window
	queued               // for the sender
	sent                 // handed over, or about to be
	left                 // sent, and its publisher has gone with ErrUnconfirmed: not sent again
	done
)

// A window holds every message from the call that publishes it to its outcome, in order, and
// bounds how many are queued and sent. It is the producer's only shared state.
type window struct {
	maxMessages, maxBytes int

	mu       sync.Mutex
	messages int // queued, sent or left
	bytes    int
	waiting  list
	queue    list
	closed   error         // not nil: nothing more is accepted
	stalled  func() error  // tells why nothing is being sent, if something is in the way; nil: nothing
	wake     chan struct{} // holds a token when the queue may have become non-empty
	idle     chan struct{} // closed when closed and empty
}

func newWindow(cfg Config) *window {
	return &window{
		maxMessages: cfg.MaxInFlight,
		maxBytes:    cfg.MaxInFlightBytes,
		wake:        make(chan struct{}, 1),
		idle:        make(chan struct{}),
	}
}

// submit takes a message in: queued if there is room, else waiting for it. With watch set,
// the window itself sees its ctx end; else its publisher has to.
func (w *window) submit(r *Receipt, watch bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if watch && r.ctx.Done() != nil {
		r.unwatch = context.AfterFunc(r.ctx, func() { w.leave(r) })
	}
	if w.closed != nil {
		w.resolve(r, r.failure(ErrNotPublished, w.closed))
		return
	}
	r.state = waiting
	w.waiting.pushBack(r)
	w.admit()
}

// admitted returns a channel that is closed when r has room, or nil if it has.
func (w *window) admitted(r *Receipt) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.state != waiting {
		return nil
	}
	r.admitted = make(chan struct{})
	return r.admitted
}

// leave gives a message its outcome because its ctx ended.
func (w *window) leave(r *Receipt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cause := context.Cause(r.ctx)
	switch r.state {
	case waiting:
		w.waiting.remove(r)
		w.resolve(r, r.failure(ErrNotPublished, w.because(errNoRoom, cause)))
		w.admit() // a smaller message behind it may have room
		w.rest()
	case queued:
		w.queue.remove(r)
		w.resolve(r, r.failure(ErrNotPublished, w.because(nil, cause)))
		w.release(r)
	case sent: // keeps its room until the session knows its outcome, or ends
		w.resolve(r, r.failure(ErrUnconfirmed, w.because(nil, cause)))
		r.state = left
	case left, done:
	}
}

var (
	errNoRoom    = errors.New("too many messages are in flight")
	errNoSession = errors.New("there is no connection")
)

// stall has those whose ctx ends from now on ask why what was in the way.
func (w *window) stall(why func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalled = why
}

// because completes cause, the end of a ctx, with what the message was waiting for. w.mu is held.
func (w *window) because(otherwise, cause error) error {
	why := otherwise
	if w.stalled != nil {
		if stalled := w.stalled(); stalled != nil {
			why = stalled
		}
	}
	if why == nil {
		return cause
	}
	return fmt.Errorf("%w: %w", why, cause)
}

// head returns the first message to send, or nil.
func (w *window) head() *Receipt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.first
}

// claim takes r, the head, out of the queue to be sent now. It returns false when r has got
// its outcome in the meantime.
func (w *window) claim(r *Receipt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.state != queued {
		return false
	}
	w.queue.remove(r)
	if r.ctx.Err() != nil {
		w.resolve(r, r.failure(ErrNotPublished, context.Cause(r.ctx)))
		w.release(r)
		return false
	}
	r.state = sent
	return true
}

// finish gives a queued or sent message its outcome.
func (w *window) finish(r *Receipt, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(r, err)
}

// finishAll gives sent messages the outcome nil.
func (w *window) finishAll(rs []*Receipt) {
	if len(rs) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range rs {
		w.end(r, nil)
	}
}

// end is called with w.mu held.
func (w *window) end(r *Receipt, err error) {
	switch r.state {
	case queued:
		w.queue.remove(r)
	case done:
		return
	case waiting, sent, left:
	}
	if r.state != left {
		w.resolve(r, err)
	}
	w.release(r)
}

// requeue puts sent messages back to the front of the queue, in their order.
func (w *window) requeue(rs []*Receipt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(rs) - 1; i >= 0; i-- {
		r := rs[i]
		if r.state == left {
			w.release(r)
			continue
		}
		r.state = queued
		w.queue.pushFront(r)
	}
	w.signal()
}

// mark notes that an attempt of r has ended with an unknown outcome.
func (w *window) mark(r *Receipt, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.unknown == nil {
		r.unknown = cause
	}
}

// close accepts nothing more; idle is closed once everything in flight has its outcome.
func (w *window) close(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed == nil {
		w.closed = cause
		w.rest()
	}
}

// abandon closes the window and ends everything that is not being sent. It returns how many
// messages it ended as unconfirmed and as not published.
func (w *window) abandon(cause error) (unconfirmed, notPublished int) {
	w.close(cause)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range [...]*list{&w.queue, &w.waiting} {
		for r := l.first; r != nil; r = l.first {
			l.remove(r)
			if r.unknown != nil {
				unconfirmed++
			} else {
				notPublished++
			}
			room := r.state == queued
			w.resolve(r, r.failure(ErrNotPublished, cause))
			if room {
				w.release(r)
			}
		}
	}
	w.rest()
	return unconfirmed, notPublished
}

// The helpers below are called with w.mu held.

func (w *window) resolve(r *Receipt, err error) {
	r.state, r.err = done, err
	if r.unwatch != nil {
		r.unwatch()
	}
	close(r.done) // before admitted, whose waiter looks whether it is
	if r.admitted != nil {
		close(r.admitted)
		r.admitted = nil
	}
}

func (w *window) release(r *Receipt) {
	r.state = done
	w.messages--
	w.bytes -= len(r.msg.Publishing.Body)
	w.admit()
	w.rest()
}

func (w *window) admit() {
	for r := w.waiting.first; r != nil; r = w.waiting.first {
		size := len(r.msg.Publishing.Body)
		if w.messages > 0 && (w.messages >= w.maxMessages || w.bytes+size > w.maxBytes) {
			return
		}
		w.waiting.remove(r)
		w.messages++
		w.bytes += size
		r.state = queued
		w.queue.pushBack(r)
		if r.admitted != nil {
			close(r.admitted)
			r.admitted = nil
		}
		w.signal()
	}
}

func (w *window) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *window) rest() {
	if w.closed == nil || w.messages > 0 || w.waiting.first != nil {
		return
	}
	select {
	case <-w.idle:
	default:
		close(w.idle)
	}
}

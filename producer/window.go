package producer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A state is a step in the life of a message. The steps follow in this order, except that a lost message returns
// from sent to queued.
type state uint8

const (
	waiting   state = iota // for room in the window
	queued                 // for the sender
	sent                   // claimed by the sender
	cancelled              // sent, then its ctx ended with ErrUnconfirmed as its outcome; not sent again
	done
)

// A window holds every message from the call that publishes it to its outcome, in order, and
// bounds how many are queued and sent. It is the producer's only shared state.
type window struct {
	maxMessages, maxBytes int
	failFast              bool

	mu       sync.Mutex
	messages int // queued, sent or cancelled
	bytes    int
	waiting  list
	queue    list
	refused  list             // queued, about to get their err as their outcome
	flight   int              // sent or cancelled
	alone    bool             // the message in flight stays the only one
	held     bool             // head held back the first message of the queue
	twins    map[uint64]twins // in flight
	closed   error            // why further messages are refused, or nil
	obstacle func() error     // returns why nothing can be sent, or nil; nil: there is no obstacle
	totals   totals
	wake     chan struct{} // receives after a message was queued
	idle     chan struct{} // closed when closed and empty
}

// twins are the messages with the same hash (see twin).
type twins struct {
	inFlight int
	headers  bool  // the ones in flight have headers
	aside    *list // queued until no twin is in flight; may be nil
}

// mustWait reports whether r may not be in flight with its twins.
func (t twins) mustWait(r *Receipt) bool {
	return t.inFlight > 0 && (t.headers || len(r.msg.Publishing.Headers) > 0 || t.aside != nil)
}

func newWindow(cfg Config) *window {
	return &window{
		maxMessages: cfg.MaxInFlight,
		maxBytes:    cfg.MaxInFlightBytes,
		failFast:    cfg.FailFast,
		twins:       map[uint64]twins{},
		wake:        make(chan struct{}, 1),
		idle:        make(chan struct{}),
	}
}

// submit adds a message: queued if there is room, otherwise waiting for room. With watch set,
// the window cancels it after its ctx ends. Otherwise its publisher must.
func (w *window) submit(r *Receipt, watch bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if watch && r.ctx.Done() != nil {
		r.unwatch = context.AfterFunc(r.ctx, func() { w.cancel(r) })
	}
	if w.closed != nil {
		w.resolve(r, r.failure(ErrNotPublished, w.closed))
		r.forget()
		return
	}
	if why := w.why(); why != nil && w.failFast && !r.probe {
		w.resolve(r, r.failure(ErrNotPublished, why))
		r.forget()
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

// cancel gives a message its outcome after its ctx ended.
func (w *window) cancel(r *Receipt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cause := context.Cause(r.ctx)
	switch r.state {
	case waiting:
		r.unlink()
		w.resolve(r, r.failure(ErrNotPublished, w.because(errNoRoom, cause)))
		r.forget()
		w.admit() // a smaller message behind it may have room
		w.closeIdle()
	case queued:
		r.unlink()
		why := error(nil)
		if r.twin != 0 && w.twins[r.twin].mustWait(r) {
			why = errTwin
		}
		w.resolve(r, r.failure(ErrNotPublished, w.because(why, cause)))
		w.release(r)
	case sent: // keeps its room until the session knows its outcome, or ends
		w.resolve(r, r.failure(ErrUnconfirmed, w.because(nil, cause)))
		r.state = cancelled
	case cancelled, done:
	}
}

var (
	errNoRoom    = errors.New("too many messages are in flight")
	errNoSession = errors.New("there is no connection")
	errTwin      = errors.New("a message that differs only in its headers is in flight")
)

// setObstacle sets the function that returns why nothing can be sent. Errors of messages whose ctx ends include it.
// With failFast, it is the outcome of messages that are not sent yet.
func (w *window) setObstacle(why func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.obstacle = why
	w.failUnsent()
}

// err returns why nothing can be sent, or nil.
func (w *window) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return cmp.Or(w.closed, w.why())
}

// checkObstacle applies failFast after the error of the obstacle has changed.
func (w *window) checkObstacle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failUnsent()
}

// failUnsent gives messages that were never sent their outcome if there is an obstacle and failFast is set. w.mu is held.
func (w *window) failUnsent() {
	if !w.failFast {
		return
	}
	why := w.why()
	if why == nil {
		return
	}
	unsent := append(w.waiting.all(), w.queue.all()...)
	for _, t := range w.twins {
		if t.aside != nil {
			unsent = append(unsent, t.aside.all()...)
		}
	}
	for _, r := range unsent {
		if r.unknown == nil && !r.probe {
			w.drop(r, r.failure(ErrNotPublished, why))
		}
	}
}

// explain completes cause, the end of a ctx, with why nothing can be sent.
func (w *window) explain(cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.because(nil, cause)
}

// because completes cause, the end of a ctx, with why the message was not sent. w.mu is held.
func (w *window) because(otherwise, cause error) error {
	why := cmp.Or(w.why(), otherwise)
	if why == nil {
		return cause
	}
	return fmt.Errorf("%w: %w", validate.Unprefixed(cause), why)
}

// why returns why nothing can be sent, or nil. w.mu is held.
func (w *window) why() error {
	if w.obstacle == nil {
		return nil
	}
	return w.obstacle()
}

// head returns the first message to send, or nil. A message whose twin is in flight is set aside if
// their returns are indistinguishable. A message that may be the cause of the broker's faults is sent
// alone.
func (w *window) head() *Receipt {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.queue.first
	for r != nil && r.twin != 0 {
		t := w.twins[r.twin]
		if !t.mustWait(r) {
			break
		}
		if t.aside == nil {
			t.aside = new(list)
			w.twins[r.twin] = t
		}
		r.unlink()
		t.aside.pushBack(r)
		r = w.queue.first
	}
	if r == nil {
		return nil
	}
	w.held = w.flight > 0 && (w.alone || r.isSuspect())
	if w.held {
		return nil
	}
	return r
}

// isSuspect reports whether the next fault would be the last for r.
func (r *Receipt) isSuspect() bool { return r.faults >= maxFaults-1 }

// claim removes r, the head, from the queue in order to send it. It returns false if r has its outcome already.
func (w *window) claim(r *Receipt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.state != queued {
		return false
	}
	r.unlink()
	if r.ctx.Err() != nil {
		w.resolve(r, r.failure(ErrNotPublished, context.Cause(r.ctx)))
		w.release(r)
		return false
	}
	r.state = sent
	w.flight++
	w.alone = r.isSuspect()
	if r.twin != 0 {
		t := w.twins[r.twin]
		t.inFlight++
		t.headers = len(r.msg.Publishing.Headers) > 0
		w.twins[r.twin] = t
	}
	return true
}

// refusalPause is how long a message waits for an outcome that is known already. Without it a publisher in a
// loop would keep everybody busy.
const refusalPause = 5 * time.Millisecond

// refuse gives a queued message its outcome after refusalPause.
func (w *window) refuse(r *Receipt, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.state != queued {
		return
	}
	r.unlink()
	r.err = err
	if w.refused.first == nil {
		time.AfterFunc(refusalPause, w.endRefused)
	}
	w.refused.pushBack(r)
}

func (w *window) endRefused() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for r := w.refused.first; r != nil; r = w.refused.first {
		w.end(r, r.err)
	}
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
		r.unlink()
	case sent, cancelled:
		w.endFlight(r)
	case done:
		return
	case waiting:
	}
	if r.state != cancelled {
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
		w.endFlight(r)
		if r.state == cancelled {
			w.release(r)
			continue
		}
		r.state = queued
		w.queue.pushFront(r)
	}
	w.signal()
}

// setUnknown records that the outcome of an attempt of r is unknown.
func (w *window) setUnknown(r *Receipt, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.unknown == nil {
		r.unknown = cause
	}
}

// close refuses further messages. idle is closed once all messages in flight have their outcomes.
func (w *window) close(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed == nil {
		w.closed = cause
		w.closeIdle()
	}
}

// abandon closes the window and ends everything that is not being sent. It returns how many
// messages it ended as unconfirmed and as not published.
func (w *window) abandon(cause error) (unconfirmed, notPublished int) {
	w.close(cause)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range [...]*list{&w.refused, &w.queue, &w.waiting} { // nothing is in flight, so no twin is set aside
		for r := l.first; r != nil; r = l.first {
			switch {
			case r.probe:
			case r.unknown != nil:
				unconfirmed++
			default:
				notPublished++
			}
			w.drop(r, r.failure(ErrNotPublished, cause))
		}
	}
	w.closeIdle()
	return unconfirmed, notPublished
}

// The helpers below are called with w.mu held.

// drop gives a waiting or queued message its outcome.
func (w *window) drop(r *Receipt, err error) {
	r.unlink()
	room := r.state == queued
	w.resolve(r, err)
	if room {
		w.release(r)
	} else {
		r.forget()
	}
}

func (w *window) resolve(r *Receipt, err error) {
	r.state, r.err = done, err
	if !r.probe {
		w.totals.add(err)
	}
	if r.unwatch != nil {
		r.unwatch()
	}
	close(r.done) // before admitted, whose waiter looks whether it is
	if r.admitted != nil {
		close(r.admitted)
		r.admitted = nil
	}
}

// endFlight notes that r is not in flight any more.
func (w *window) endFlight(r *Receipt) {
	w.flight--
	if w.held {
		w.signal()
	}
	if r.twin == 0 {
		return
	}
	t := w.twins[r.twin]
	if t.inFlight--; t.inFlight > 0 {
		w.twins[r.twin] = t
		return
	}
	delete(w.twins, r.twin)
	if t.aside == nil {
		return
	}
	for twin := t.aside.last; twin != nil; twin = t.aside.last {
		twin.unlink()
		w.queue.pushFront(twin)
	}
	w.signal()
}

func (w *window) release(r *Receipt) {
	r.state = done
	w.messages--
	w.bytes -= len(r.msg.Publishing.Body)
	r.forget()
	w.admit()
	w.closeIdle()
}

func (w *window) admit() {
	for r := w.waiting.first; r != nil; r = w.waiting.first {
		size := len(r.msg.Publishing.Body)
		if w.messages > 0 && (w.messages >= w.maxMessages || w.bytes+size > w.maxBytes) {
			return
		}
		r.unlink()
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

func (w *window) closeIdle() {
	if w.closed == nil || w.messages > 0 || w.waiting.first != nil {
		return
	}
	select {
	case <-w.idle:
	default:
		close(w.idle)
	}
}

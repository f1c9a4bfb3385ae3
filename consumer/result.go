package consumer

import (
	"errors"
	"fmt"
	"time"
)

// Reject returns a handler's result that gives the message up: it is rejected without
// requeueing (basic.reject). RabbitMQ passes it to the queue's dead-letter exchange, and
// drops it if there is none. err says why; it may be nil.
func Reject(err error) error { return &RejectError{Err: err} }

// Requeue returns a handler's result that postpones the message: it goes back to the queue
// after d (basic.nack with requeue). RabbitMQ 4.3 does not count that as a failed delivery,
// so that a message may be postponed indefinitely; earlier releases do. Until then the delivery
// holds no worker but one place of Config.Prefetch, and d should stay below the queue's
// consumer timeout, 30 minutes by default. A reason is logged.
//
// A d of zero or less returns the message at once. Messages that were delivered before and go back
// again at once are held for 100 ms, with a warning, after ten of them within ten seconds: they would circle at
// the speed of the link.
func Requeue(d time.Duration, reason ...error) error {
	return &RequeueError{After: d, Err: errors.Join(reason...)}
}

// RejectRequeue returns a handler's result that requeues the message at once as a failed delivery (basic.reject with
// requeue). Use it for quorum queues that delay failed messages (x-delayed-retry-type, RabbitMQ 4.3). Any other queue
// redelivers the message at once, up to its delivery limit. Without a limit, messages that circle are held as with
// Requeue. err is the reason and may be nil.
func RejectRequeue(err error) error { return &RejectError{Requeue: true, Err: err} }

// A RejectError is the result of Reject and RejectRequeue. Middleware can inspect it.
type RejectError struct {
	Requeue bool  // whether the message is requeued; otherwise it is dead-lettered or dropped
	Err     error // the reason; may be nil
}

func (e *RejectError) Error() string {
	s := "rejected"
	if e.Requeue {
		s = "rejected with requeue"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *RejectError) Unwrap() error { return e.Err }

// A RequeueError is the result of Requeue. Middleware can inspect it.
type RequeueError struct {
	After time.Duration // how long the message is held before it is requeued
	Err   error         // the reason; may be nil
}

func (e *RequeueError) Error() string {
	s := fmt.Sprintf("requeued after %v", e.After)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *RequeueError) Unwrap() error { return e.Err }

// A settlement is one of the ways to settle a delivery.
type settlement int

const (
	ack      settlement = iota // done
	reject                     // given up: basic.reject without requeue
	postpone                   // back to the queue, uncounted: basic.nack with requeue
	fail                       // back to the queue after a hold, counted: basic.reject with requeue
	failNow                    // the same without a hold
	putBack                    // as postpone, at the shutdown and without a handler
)

// judge tells what a handler's result asks for and, for postpone, after how long. Of several
// results wrapped in one error the outermost holds.
func judge(err error) (settlement, time.Duration) {
	if err == nil {
		return ack, 0
	}
	// The result types and nothing else: errors.As stops at the outermost of them.
	var result interface {
		error
		settlement() (settlement, time.Duration)
	}
	if errors.As(err, &result) {
		return result.settlement()
	}
	return fail, 0
}

func (e *RejectError) settlement() (how settlement, after time.Duration) {
	how = reject
	if e.Requeue {
		how = failNow
	}
	return how, 0
}

func (e *RequeueError) settlement() (settlement, time.Duration) { return postpone, e.After }

// A panic is a failure, whatever its value says.
func (e *PanicError) settlement() (settlement, time.Duration) { return fail, 0 }

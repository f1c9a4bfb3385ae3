package consumer

import (
	"errors"
	"fmt"
	"time"
)

// Reject returns a handler result that rejects the message without requeueing (basic.reject). RabbitMQ dead-letters
// the message, or drops it if the queue has no dead-letter exchange. err is the reason and may be nil.
func Reject(err error) error { return &RejectError{Err: err} }

// Requeue returns a handler result that requeues the message after d (basic.nack with requeue). RabbitMQ 4.3 does not
// count that as a failed delivery, so a message may be postponed indefinitely; earlier releases count it. During d
// the delivery occupies no worker but one place of Config.Prefetch. Keep d below the queue's consumer timeout, 30
// minutes by default. A reason is logged.
//
// A d of zero or less requeues the message at once. If a Run requeues more than ten redelivered messages at once
// within ten seconds, it holds further ones for 100 ms and logs a warning. Otherwise they would cycle at the speed of
// the connection.
func Requeue(d time.Duration, reason ...error) error {
	return &RequeueError{After: d, Err: errors.Join(reason...)}
}

// RejectRequeue returns a handler result that requeues the message at once as a failed delivery (basic.reject with
// requeue). Use it for quorum queues that delay failed messages (x-delayed-retry-type, RabbitMQ 4.3). Any other queue
// redelivers the message at once, up to its delivery limit. Messages without a limit are held when they cycle, as
// with Requeue. err is the reason and may be nil.
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

// A settlement is a way to settle a delivery.
type settlement int

const (
	ack      settlement = iota // basic.ack
	reject                     // basic.reject without requeue
	postpone                   // requeued, not counted: basic.nack with requeue
	fail                       // requeued after a hold, counted: basic.reject with requeue
	failNow                    // the same without a hold
	putBack                    // like postpone, for an unhandled delivery at shutdown
)

// classify returns the settlement for a handler's result and, for postpone, the delay. If an error wraps several
// results, the outermost one decides.
func classify(err error) (settlement, time.Duration) {
	if err == nil {
		return ack, 0
	}
	// Only the result types have the method, so errors.As stops at the outermost of them.
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

// A panic is a failure, even if its value wraps another result.
func (e *PanicError) settlement() (settlement, time.Duration) { return fail, 0 }

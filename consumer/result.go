package consumer

import (
	"context"
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
// so that a message may be postponed for ever; earlier releases do. Until then the delivery
// holds no worker but one place of Config.Prefetch, and d should stay below the queue's
// consumer timeout, 30 minutes by default.
func Requeue(d time.Duration) error { return &RequeueError{After: d} }

// A RejectError is the result that Reject makes, for middleware to look at.
type RejectError struct {
	Err error // why; may be nil
}

func (e *RejectError) Error() string {
	if e.Err == nil {
		return "rejected"
	}
	return "rejected: " + e.Err.Error()
}

func (e *RejectError) Unwrap() error { return e.Err }

// A RequeueError is the result that Requeue makes, for middleware to look at.
type RequeueError struct {
	After time.Duration // how long the message is held before it goes back
}

func (e *RequeueError) Error() string { return fmt.Sprintf("requeued after %v", e.After) }

// A settlement is one of the ways to settle a delivery.
type settlement int

const (
	ack      settlement = iota // done
	reject                     // given up: basic.reject without requeue
	postpone                   // back to the queue, uncounted: basic.nack with requeue
	fail                       // back to the queue, counted: basic.reject with requeue
)

// judge tells what a handler's result asks for and, for postpone, after how long. Of several
// results wrapped in one error the outermost holds.
func judge(err error) (settlement, time.Duration) {
	if err == nil {
		return ack, 0
	}
	// Both result types and nothing else: errors.As stops at the outermost of either.
	var result interface {
		error
		settlement() (settlement, time.Duration)
	}
	if errors.As(err, &result) {
		return result.settlement()
	}
	return fail, 0
}

func (e *RejectError) settlement() (settlement, time.Duration)  { return reject, 0 }
func (e *RequeueError) settlement() (settlement, time.Duration) { return postpone, e.After }

// interrupted reports whether err tells only of the end of the handler's ctx. At the end of
// the drain time that is no failure of the message.
func interrupted(err error) bool { return errors.Is(err, context.Canceled) }

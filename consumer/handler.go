package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

var errGoexit = errors.New("consumer: the handler called runtime.Goexit")

// A Handler processes one delivery. Its result settles the delivery; see the table in the package documentation.
//
// ctx carries the values of Run's ctx. It is not cancelled when Run's ctx ends or when the connection is lost, so
// that a handler can finish. It is cancelled when Config.DrainTimeout has elapsed.
type Handler func(ctx context.Context, d *Delivery) error

// A Middleware wraps a Handler, to act before it or on its result.
type Middleware func(Handler) Handler

// Timeout returns a Middleware that cancels the handler's ctx d after the handler started, with a cause that wraps
// context.DeadlineExceeded. The handler's result still settles the delivery. A handler that ignores its ctx keeps
// running, because Go cannot stop it. Keep d below the queue's consumer timeout, 30 minutes by default. A d of zero
// or less means no timeout.
func Timeout(d time.Duration) Middleware {
	cause := fmt.Errorf("consumer: the handler took longer than %v: %w", d, context.DeadlineExceeded)
	return func(next Handler) Handler {
		if d <= 0 {
			return next
		}
		return func(ctx context.Context, dl *Delivery) error {
			ctx, cancel := context.WithTimeoutCause(ctx, d, cause)
			defer cancel()
			return next(ctx, dl)
		}
	}
}

// JSON returns a Handler that decodes the body as JSON and calls f with the value. A body that cannot be decoded is
// rejected, because a retry would fail again. f gets the delivery from FromContext.
func JSON[T any](f func(ctx context.Context, v T) error) Handler {
	return func(ctx context.Context, d *Delivery) error {
		var v T
		if err := json.Unmarshal(d.Body, &v); err != nil {
			return Reject(fmt.Errorf("decode the body as JSON into %T: %w", v, err))
		}
		return f(context.WithValue(ctx, deliveryKey{}, d), v)
	}
}

type deliveryKey struct{}

// FromContext returns the delivery of a typed handler, such as JSON's. ok is false for any other ctx.
func FromContext(ctx context.Context) (*Delivery, bool) {
	d, ok := ctx.Value(deliveryKey{}).(*Delivery)
	return d, ok
}

// chain wraps h into the middleware, the first outermost. Each handler and middleware is wrapped by recovered, so
// that the middleware around it sees a panic as an error.
func chain(h Handler, middleware []Middleware) Handler {
	h = recovered(h)
	for i := len(middleware) - 1; i >= 0; i-- {
		h = recovered(middleware[i](h))
	}
	return h
}

func recovered(h Handler) Handler {
	return func(ctx context.Context, d *Delivery) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		return h(ctx, d)
	}
}

// An outcome is the classified result of a handler.
type outcome struct {
	how   settlement
	after time.Duration // for postpone
	err   error         // the handler's result

	reason error         // of Requeue
	took   time.Duration // the handler's duration, measured only for ordered queues

	// interrupted reports that err is only the cancellation of the handler's ctx. After the drain timeout, that does
	// not count as a failure of the message.
	interrupted bool
}

// handle runs h and classifies its result. classify calls methods of the handler's error, so a panic in them is
// recovered, too.
func handle(ctx context.Context, h Handler, d *Delivery) (v outcome) {
	defer func() {
		if p := recover(); p != nil {
			v = outcome{how: fail, err: &PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	err := h(ctx, d)
	v = outcome{err: err}
	v.how, v.after = classify(err)
	v.interrupted = v.how == fail && errors.Is(err, context.Canceled)
	if requeue := (*RequeueError)(nil); v.how == postpone && errors.As(err, &requeue) {
		v.reason = requeue.Err
	}
	return v
}

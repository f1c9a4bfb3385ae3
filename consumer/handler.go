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

// A Handler processes one delivery. Its result settles it; see the package's table.
//
// ctx carries the values of Run's ctx. It does not end with it, nor when the connection is
// lost, but when the drain time is over: a handler finishes what it began.
type Handler func(ctx context.Context, d *Delivery) error

// A Middleware wraps a Handler to act before it and on its result.
type Middleware func(Handler) Handler

// Timeout returns a Middleware that ends the handler's ctx d after it began, with a cause that
// wraps context.DeadlineExceeded. The handler's result settles the delivery as always, and a
// handler that does not look at its ctx goes on: Go cannot end it. Keep d below the queue's
// consumer timeout, 30 minutes by default. A d of zero or less means no timeout.
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

// JSON makes a Handler of a function over a value decoded from the body. A body that does
// not decode is rejected: no further attempt would change it. FromContext gives f the
// delivery itself.
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

// FromContext returns the delivery that a typed handler such as JSON's works on.
func FromContext(ctx context.Context) (*Delivery, bool) {
	d, ok := ctx.Value(deliveryKey{}).(*Delivery)
	return d, ok
}

// chain wraps h into the middleware, the first outermost. A panic becomes an error where it
// leaves the handler or a middleware, so that the middleware around can act on it.
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

// A verdict is what becomes of a delivery.
type verdict struct {
	how   settlement
	after time.Duration // for postpone
	err   error         // the handler's result

	reason error         // of Requeue
	took   time.Duration // measured where the order is kept

	// interrupted says that err tells only of the end of the handler's ctx. At the end of the
	// drain time that is no failure of the message.
	interrupted bool
}

// handle runs h and judges its result. Judging calls methods of the handler's error, and so
// it is guarded too.
func handle(ctx context.Context, h Handler, d *Delivery) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			v = verdict{how: fail, err: &PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	err := h(ctx, d)
	v = verdict{err: err}
	v.how, v.after = judge(err)
	v.interrupted = v.how == fail && errors.Is(err, context.Canceled)
	if requeue := (*RequeueError)(nil); v.how == postpone && errors.As(err, &requeue) {
		v.reason = requeue.Err
	}
	return v
}

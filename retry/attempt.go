package retry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
)

type attemptKey struct{}

// Attempt returns the number of the current attempt, starting with 1. ctx is the handler's. Outside of the middleware Attempt
// returns 0.
func Attempt(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}

// errGoexit is the failure of a handler that ended its goroutine.
var errGoexit = errors.New("the handler called runtime.Goexit, as t.FailNow does")

// attempt calls the handler.
func (m *message) attempt(ctx context.Context, h consumer.Handler) {
	ctx = context.WithValue(ctx, attemptKey{}, m.record.Attempts+1)
	m.show()
	if !m.separately(ctx, h) && !m.separately(ctx, func(context.Context, *consumer.Delivery) error { return errGoexit }) {
		m.failure = &failure{text: errGoexit.Error(), action: m.cfg.Policy} // a rule ended the goroutine
	}
}

// separately calls the handler and reads its error on another goroutine, because runtime.Goexit would end the worker. It returns false
// if the goroutine was ended.
func (m *message) separately(ctx context.Context, h consumer.Handler) bool {
	m.ended.Add(1)
	go func() {
		defer m.ended.Done()
		m.result = call(ctx, h, &m.view)
		m.failure = m.read(ctx, m.result)
		m.returned = true
	}()
	m.ended.Wait()
	return m.returned
}

// show makes the handler's view of the delivery: as it was first published, with the record in its headers.
func (m *message) show() {
	m.view = *m.d
	m.view.Exchange, m.view.RoutingKey, m.view.Expiration = m.record.Exchange, m.record.Key, m.record.Expiration
	if m.record.CC != nil && m.d.Headers[history.HeaderCC] != nil {
		m.view.Headers = maps.Clone(m.d.Headers)
		m.view.Headers["CC"] = m.record.CC
	}
}

// call calls the handler and returns a panic as an error.
func call(ctx context.Context, h consumer.Handler, d *consumer.Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &consumer.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return h(ctx, d)
}

// A failure is a failed attempt. It is read from the handler's error once, on the handler's goroutine, because methods of
// errors may panic or end the goroutine.
type failure struct {
	text, kind          string
	rejected, permanent bool
	after               *afterError
	action              Action
	stack               []byte // of a panic
}

// read returns the failure that a handler's error reports, or nil if the message did not fail. A panic in a method of the
// error, for example because of a typed nil, becomes the failure.
func (p *Plan) read(ctx context.Context, err error) (f *failure) {
	defer func() {
		if v := recover(); v != nil {
			f = p.describe(ctx, &consumer.PanicError{Value: fmt.Sprint(v), Stack: debug.Stack()})
		}
	}()
	if err == nil {
		return nil
	}
	return p.describe(ctx, err)
}

// describe is read without a guard. A postponement is not a failure, nor is an error that only reports the end of the consumer's drain
// time.
func (p *Plan) describe(ctx context.Context, err error) *failure {
	f := &failure{action: p.cfg.Policy}
	switch result := outermost(err).(type) { //nolint:errorlint // outermost has unwrapped it
	case *consumer.PanicError:
		f.stack = result.Stack
	case *consumer.RejectError:
		f.rejected = !result.Requeue
	case *consumer.RequeueError:
		if result != nil {
			return nil
		}
	default:
		if errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled) {
			return nil
		}
	}
	f.text, f.permanent = history.Cut(err.Error(), history.MaxErrorText), amqperr.IsPermanent(err)
	for _, r := range p.cfg.Rules {
		if r.matches(err) {
			f.action = r.action
			break
		}
	}
	errors.As(err, &f.after)
	f.kind = history.Cut(fmt.Sprintf("%T", unmarked(err)), history.MaxEntryText)
	return f
}

// outermost returns the result in err that the consumer would act on, or nil. A result may wrap another one as its reason.
func outermost(err error) error {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case *consumer.PanicError, *consumer.RejectError, *consumer.RequeueError:
		return err
	case interface{ Unwrap() error }:
		return outermost(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if result := outermost(err); result != nil {
				return result
			}
		}
	}
	return nil
}

// unmarked returns the error inside the results of Permanent, After and Reject, for its type.
func unmarked(err error) error {
	switch err.(type) { //nolint:errorlint // only the outermost ones are removed
	case interface {
		Permanent() bool
		Unwrap() error
	}, *afterError, *consumer.RejectError:
		if inner := errors.Unwrap(err); inner != nil {
			return unmarked(inner)
		}
	}
	return err
}

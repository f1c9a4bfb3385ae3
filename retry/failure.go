package retry

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
)

// errGoexit is the failure of a handler that ended its goroutine.
var errGoexit = errors.New("the handler called runtime.Goexit, as t.FailNow does")

// A failure is a failed attempt. It is read from the handler's error once, on the handler's goroutine, because methods of
// errors may panic or end the goroutine.
type failure struct {
	err        error
	text, kind string
	rejected   bool
	permanent  bool
	after      *afterError
	action     Action
	stack      []byte // of a panic
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

// read returns the failure that a handler's error reports, or nil if the message did not fail. A panic in a method of the
// error, for example because of a typed nil, becomes the failure.
func (p *Plan) read(ctx context.Context, err error) (f *failure) {
	defer func() {
		if v := recover(); v != nil {
			f = p.describe(&consumer.PanicError{Value: fmt.Sprint(v), Stack: debug.Stack()})
		}
	}()
	if err == nil || !failed(ctx, err) {
		return nil
	}
	return p.describe(err)
}

// failed returns false for a postponement, and for an error that only reports the end of the consumer's drain time.
func failed(ctx context.Context, err error) bool {
	switch result := outermost(err).(type) { //nolint:errorlint // outermost has unwrapped it
	case *consumer.RequeueError:
		return result == nil
	case *consumer.PanicError, *consumer.RejectError:
		return true
	}
	return !errors.Is(err, context.Canceled) || !errors.Is(ctx.Err(), context.Canceled)
}

// outermost returns the result in err that the consumer would act on, or nil. A result may wrap another one as its reason.
func outermost(err error) error {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case *consumer.PanicError, *consumer.RejectError, *consumer.RequeueError, *consumer.FailError:
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

func (p *Plan) describe(err error) *failure {
	f := &failure{err: err, text: history.Cut(err.Error(), history.MaxErrorText), permanent: amqperr.IsPermanent(err), action: p.cfg.Policy}
	for _, r := range p.cfg.Rules {
		if r.matches(err) {
			f.action = r.action
			break
		}
	}
	errors.As(err, &f.after)
	switch result := outermost(err).(type) { //nolint:errorlint // outermost has unwrapped it
	case *consumer.PanicError:
		f.stack = result.Stack
	case *consumer.RejectError:
		f.rejected = true
	}
	f.kind = history.Cut(fmt.Sprintf("%T", unmarked(err)), history.MaxEntryText)
	return f
}

// unmarked returns the error inside the outermost results of Permanent, After and Reject.
func unmarked(err error) error {
	var inner error
	switch e := err.(type) { //nolint:errorlint // only the outermost ones are removed
	case interface {
		Permanent() bool
		Unwrap() error
	}: // amqperr.Permanent
		inner = e.Unwrap()
	case *afterError:
		inner = e.err
	case *consumer.RejectError:
		inner = e.Err
	}
	if inner == nil {
		return err
	}
	return unmarked(inner)
}

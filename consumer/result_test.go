package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestClassifyReturnsTheSettlementOfAResult(t *testing.T) {
	cause := errors.New("no such customer")
	for name, c := range map[string]struct {
		err   error
		how   settlement
		after time.Duration
	}{
		"nil acks":                         {nil, ack, 0},
		"Reject":                           {Reject(cause), reject, 0},
		"Reject without a cause":           {Reject(nil), reject, 0},
		"Reject, wrapped":                  {fmt.Errorf("order 7: %w", Reject(cause)), reject, 0},
		"RejectRequeue":                    {RejectRequeue(cause), failNow, 0},
		"RejectRequeue, wrapped":           {fmt.Errorf("order 7: %w", RejectRequeue(nil)), failNow, 0},
		"Requeue":                          {Requeue(time.Minute), postpone, time.Minute},
		"Requeue, wrapped":                 {fmt.Errorf("busy: %w", Requeue(time.Second)), postpone, time.Second},
		"Requeue, joined with a cause":     {errors.Join(cause, Requeue(time.Second)), postpone, time.Second},
		"the outermost of two: Reject":     {Reject(Requeue(time.Second)), reject, 0},
		"the first of two: Requeue":        {errors.Join(Requeue(time.Second), Reject(cause)), postpone, time.Second},
		"Requeue with a reason":            {Requeue(time.Second, cause), postpone, time.Second},
		"Requeue with any reason":          {Requeue(time.Second, Reject(&PanicError{})), postpone, time.Second},
		"any other error":                  {cause, fail, 0},
		"a panic with any value":           {&PanicError{Value: 7}, fail, 0},
		"a panic with a Reject is a panic": {&PanicError{Value: Reject(cause)}, fail, 0},
	} {
		if how, after := classify(c.err); how != c.how || after != c.after {
			t.Errorf("%s: classify = %v, %v; want %v, %v", name, how, after, c.how, c.after)
		}
	}
}

func TestRejectKeepsItsCause(t *testing.T) {
	cause := errors.New("no such customer")
	err := Reject(cause)
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), cause.Error()) {
		t.Errorf("Reject(%v) = %v, want it wrapped", cause, err)
	}
}

func TestRequeueKeepsItsReason(t *testing.T) {
	reason := errors.New("not my shard")
	err := Requeue(time.Second, reason)
	if !errors.Is(err, reason) || err.Error() != "requeued after 1s: not my shard" {
		t.Errorf("Requeue = %v, want the reason wrapped", err)
	}
	if err := Requeue(time.Second); errors.Unwrap(err) != nil || err.Error() != "requeued after 1s" {
		t.Errorf("Requeue = %v, want no reason", err)
	}
}

func TestJSONRejectsInvalidBodies(t *testing.T) {
	h := JSON(func(context.Context, struct{ ID int }) error { panic("called") })
	for _, body := range []string{"", "{", `{"ID":"seven"}`, `{"ID":7} trailing`, "\x1f\x8b compressed"} {
		err := h(t.Context(), &Delivery{Delivery: amqp.Delivery{Body: []byte(body)}})
		if how, _ := classify(err); how != reject {
			t.Errorf("JSON over %q = %v, want a Reject", body, err)
		}
	}
}

func TestJSONPassesTheValueAndItsDelivery(t *testing.T) {
	d := &Delivery{Delivery: amqp.Delivery{Body: []byte(`{"ID":7}`), MessageId: "m7"}}
	want := errors.New("the result")
	got := JSON(func(ctx context.Context, v struct{ ID int }) error {
		if from, ok := FromContext(ctx); !ok || from != d || v.ID != 7 {
			t.Errorf("got %+v with delivery %v (%v), want ID 7 with %v", v, from, ok, d)
		}
		return want
	})(t.Context(), d)
	if got != want {
		t.Errorf("result %v, want %v", got, want)
	}
	if _, ok := FromContext(t.Context()); ok {
		t.Error("FromContext found a delivery in an empty ctx")
	}
}

func TestPanicReachesMiddlewareAsAnError(t *testing.T) {
	cause := errors.New("nil map")
	var seen error
	watch := func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) error {
			seen = next(ctx, d)
			return seen
		}
	}
	err := chain(func(context.Context, *Delivery) error { panic(cause) }, []Middleware{watch})(t.Context(), &Delivery{})
	var p *PanicError
	if !errors.As(seen, &p) || !errors.Is(err, cause) || !strings.Contains(string(p.Stack), "result_test.go") {
		t.Errorf("middleware saw %v, Run sees %v; want a PanicError with the handler's stack", seen, err)
	}

	broken := func(Handler) Handler { return func(context.Context, *Delivery) error { panic("in middleware") } }
	if err := chain(nil, []Middleware{watch, broken})(t.Context(), &Delivery{}); !errors.As(err, &p) {
		t.Errorf("%v around a middleware that panics, want a PanicError", err)
	}
	if v := handle(t.Context(), chain(nil, []Middleware{broken}), &Delivery{}); v.how != fail || !errors.As(v.err, &p) {
		t.Errorf("a panic in middleware = %+v, want a failure by PanicError", v)
	}
}

// A fragileError panics when it is inspected.
type fragileError struct{ cause error }

func (e *fragileError) Error() string { return "fragile" }
func (e *fragileError) Unwrap() error { return e.cause }

func TestUnusualHandlerResultsCountAsPanics(t *testing.T) {
	var fragile *fragileError
	var requeue *RequeueError
	for name, h := range map[string]Handler{
		"typed nil":            func(context.Context, *Delivery) error { return fragile },
		"nil RequeueError":     func(context.Context, *Delivery) error { return requeue },
		"panic with a result":  func(context.Context, *Delivery) error { panic(Reject(nil)) },
		"panic with Requeue":   func(context.Context, *Delivery) error { panic(Requeue(time.Hour)) },
		"panic in a typed nil": func(context.Context, *Delivery) error { panic(fragile) },
	} {
		var p *PanicError
		if v := handle(t.Context(), chain(h, nil), &Delivery{}); v.how != fail || !errors.As(v.err, &p) || len(p.Stack) == 0 {
			t.Errorf("%s: %+v, want a failure by PanicError", name, v)
		}
	}
}

func TestTimeoutEndsTheHandlersCtxWithACause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var cause error
		slow := func(ctx context.Context, _ *Delivery) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		}
		v := handle(t.Context(), chain(slow, []Middleware{Timeout(time.Minute)}), &Delivery{})
		if took := time.Since(began); took != time.Minute {
			t.Errorf("its ctx ended after %v, want 1m", took)
		}
		if !errors.Is(cause, context.DeadlineExceeded) || !strings.Contains(cause.Error(), "1m0s") {
			t.Errorf("cause %v, want one with the duration", cause)
		}
		if v.how != fail || v.interrupted {
			t.Errorf("the handler's error became %+v, want a failure of the message", v)
		}
		late := func(ctx context.Context, _ *Delivery) error { <-ctx.Done(); return nil }
		if v := handle(t.Context(), chain(late, []Middleware{Timeout(time.Minute)}), &Delivery{}); v.how != ack {
			t.Errorf("success after the time became %+v, want an ack", v)
		}
		none := func(ctx context.Context, _ *Delivery) error {
			if _, bounded := ctx.Deadline(); bounded {
				t.Error("zero means no timeout")
			}
			return nil
		}
		handle(t.Context(), chain(none, []Middleware{Timeout(0)}), &Delivery{})
	})
}

func TestFirstMiddlewareIsOutermost(t *testing.T) {
	var order []string
	mark := func(name string) Middleware {
		return func(next Handler) Handler {
			return func(ctx context.Context, d *Delivery) error {
				order = append(order, name)
				return next(ctx, d)
			}
		}
	}
	h := chain(func(context.Context, *Delivery) error { order = append(order, "handler"); return nil },
		[]Middleware{mark("first"), mark("second")})
	if err := h(t.Context(), &Delivery{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "first second handler" {
		t.Errorf("ran %s, want first second handler", got)
	}
}

func TestHandlerCannotSettleItsDelivery(t *testing.T) {
	d := (&session{channel: channel{queue: "orders"}}).delivery(amqp.Delivery{DeliveryTag: 1})
	for name, settle := range map[string]func() error{
		"Ack":    func() error { return d.Ack(false) },
		"Nack":   func() error { return d.Nack(true, true) },
		"Reject": func() error { return d.Reject(false) },
	} {
		if err := settle(); !errors.Is(err, ErrAlreadySettled) {
			t.Errorf("%s = %v, want ErrAlreadySettled", name, err)
		}
	}
}

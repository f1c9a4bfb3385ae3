package amqperr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/amqpkit/amqpkit/amqperr"
)

func TestPermanentKeepsTextAndCauses(t *testing.T) {
	if err := amqperr.Permanent(nil); err != nil {
		t.Errorf("Permanent(nil) = %#v, want nil", err)
	}
	cause := &amqperr.FieldError{Field: "Amount", Problem: "negative"}
	err := fmt.Errorf("order 7: %w", amqperr.Permanent(fmt.Errorf("check: %w", cause)))
	var f *amqperr.FieldError
	if !errors.As(err, &f) || f != cause {
		t.Errorf("As(*amqperr.FieldError) in %v = %v, want the cause", err, f)
	}
	if err.Error() != "order 7: check: Amount: negative" {
		t.Errorf("text = %q, want it unchanged", err)
	}
	if !errors.Is(amqperr.Permanent(io.EOF), io.EOF) {
		t.Error("errors.Is does not find the cause in Permanent")
	}
}

func TestIsPermanentRecognizesEveryMark(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nil":                  {nil, false},
		"plain":                {io.EOF, false},
		"ctx":                  {context.Canceled, false},
		"ours":                 {amqperr.Permanent(io.EOF), true},
		"ours twice":           {amqperr.Permanent(amqperr.Permanent(io.EOF)), true},
		"ours, wrapped":        {fmt.Errorf("handler: %w", amqperr.Permanent(io.EOF)), true},
		"ours, joined":         {errors.Join(io.EOF, amqperr.Permanent(io.EOF)), true},
		"theirs":               {backoff.Permanent(io.EOF), true},
		"theirs, wrapped":      {fmt.Errorf("handler: %w", backoff.Permanent(io.EOF)), true},
		"field":                {&amqperr.FieldError{Field: "Body"}, true},
		"method returns true":  {permanence(true), true},
		"method returns false": {permanence(false), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := amqperr.IsPermanent(c.err); got != c.want {
				t.Errorf("IsPermanent(%v) = %v, want %v", c.err, got, c.want)
			}
		})
	}
}

type permanence bool

func (p permanence) Error() string   { return "permanence" }
func (p permanence) Permanent() bool { return bool(p) }

func TestPermanentStopsBackoffRetry(t *testing.T) {
	calls := 0
	err := backoff.Retry(func() error {
		calls++
		return fmt.Errorf("handler: %w", amqperr.Permanent(io.EOF))
	}, backoff.NewConstantBackOff(time.Hour))
	if calls != 1 || err != io.EOF {
		t.Errorf("Retry = %v after %d calls, want EOF after 1", err, calls)
	}
}

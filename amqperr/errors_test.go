package amqperr_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/amqpkit/amqpkit/amqperr"
)

func TestS83OnlyErrorsThatNoNodeCanFixArePermanent(t *testing.T) {
	data, version := &amqperr.FieldError{Field: "Name"}, &amqperr.FieldError{Field: "DelayedRetry", Broker: "RabbitMQ 4.2.0"}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("refused"), false},
		{data, true},
		{version, false},
		{fmt.Errorf("setup: %w", data), true},
		{fmt.Errorf("setup: %w", version), false},
		{errors.Join(version, data), true},
		{errors.Join(errors.New("refused"), version), false},
		{fmt.Errorf("%w: %w", errors.New("setup failed"), data), true},
	} {
		if got := amqperr.IsPermanent(c.err); got != c.want {
			t.Errorf("%v: permanent %v, want %v", c.err, got, c.want)
		}
	}
}

func TestFieldErrorNamesTheFieldAndTheFix(t *testing.T) {
	err := fmt.Errorf("setup: %w", &amqperr.FieldError{Package: "p", Field: "F", Problem: "is bad", Fix: "fix it"})
	if want := "setup: p: F: is bad; fix it"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

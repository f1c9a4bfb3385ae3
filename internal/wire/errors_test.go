package wire

import (
	"errors"
	"fmt"
	"testing"
)

func TestS83OnlyErrorsThatNoNodeCanHealArePermanent(t *testing.T) {
	data, version := &FieldError{Field: "Name"}, &FieldError{Field: "Native", Broker: "RabbitMQ 4.2.0"}
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
		if got := IsPermanent(c.err); got != c.want {
			t.Errorf("%v: permanent %v, want %v", c.err, got, c.want)
		}
	}
}

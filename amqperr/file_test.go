package amqperr_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/amqpkit/amqpkit/amqperr"
)

func TestFileErrorNamesThePlace(t *testing.T) {
	field := amqperr.FieldError{Package: "p", Field: "queues.a", Problem: "is bad", Fix: "fix it"}
	for want, err := range map[string]*amqperr.FileError{
		"p: a.yaml:2:5: queues.a: is bad; fix it":         {FieldError: field, File: "a.yaml", Line: 2, Column: 5},
		"p: line 2, column 5: queues.a: is bad; fix it":   {FieldError: field, Line: 2, Column: 5},
		"line 1, column 1: is empty":                      {FieldError: amqperr.FieldError{Problem: "is empty"}, Line: 1, Column: 1},
		"p: a.yaml:1:1: is not YAML; check the structure": {FieldError: amqperr.FieldError{Package: "p", Problem: "is not YAML", Fix: "check the structure"}, File: "a.yaml", Line: 1, Column: 1},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
		wrapped := fmt.Errorf("setup: %w", err)
		if f, ok := errors.AsType[*amqperr.FieldError](wrapped); !ok || f.Problem != err.Problem || !amqperr.IsPermanent(wrapped) {
			t.Errorf("%v has no FieldError, or is not permanent", wrapped)
		}
	}
}

package retry

import (
	"errors"

	"github.com/cenkalti/backoff/v4"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A PermanentError marks an error that no retry can heal. [Permanent] makes it.
type PermanentError struct {
	Err error // never nil
}

// Permanent marks err as one that no retry can heal: whatever the policy says, it is over.
// The text stays that of err, and errors.Is and errors.As see through the mark. Permanent of
// nil is nil.
//
// The mark also ends the Retry functions of backoff/v4.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &PermanentError{Err: err}
}

// IsPermanent reports whether err, or an error that it wraps, is marked by [Permanent] or by
// the Permanent of backoff/v4, or says so itself with a method Permanent() bool, as the
// FieldErrors of this module do.
func IsPermanent(err error) bool {
	var p *backoff.PermanentError
	return wire.IsPermanent(err) || errors.As(err, &p)
}

func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the marked error.
func (e *PermanentError) Unwrap() error { return e.Err }

// Permanent returns true.
func (e *PermanentError) Permanent() bool { return true }

// As lets errors.As find a *backoff.PermanentError in e, which is how backoff/v4 looks for it.
func (e *PermanentError) As(target any) bool {
	p, ok := target.(**backoff.PermanentError)
	if ok {
		*p = &backoff.PermanentError{Err: e.Err}
	}
	return ok
}

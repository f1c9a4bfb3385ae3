package amqperr

import (
	"errors"
	"slices"

	"github.com/cenkalti/backoff/v4"
)

// Permanent marks err as an error that no retry can heal. Handlers, Setup and Declare functions return it to stop
// retries. Its text is that of err, and errors.Is and errors.As find err and its causes. The mark also stops the Retry functions of
// backoff/v4. Permanent of nil is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// IsPermanent reports whether retrying cannot help: err, or an error that it wraps, was marked by [Permanent] or by the
// Permanent of backoff/v4, or has a method Permanent() bool that returns true, as a [*FieldError] has. If several errors
// of a chain have the method, the outermost one decides. One branch is enough in joined errors.
func IsPermanent(err error) bool {
	var p *backoff.PermanentError
	return declared(err) || errors.As(err, &p)
}

func declared(err error) bool {
	if p, ok := err.(interface{ Permanent() bool }); ok {
		return p.Permanent()
	}
	switch u := err.(type) { //nolint:errorlint // the chain is walked here
	case interface{ Unwrap() error }:
		return declared(u.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(u.Unwrap(), declared)
	}
	return false
}

type permanent struct{ err error }

func (e *permanent) Error() string   { return e.err.Error() }
func (e *permanent) Unwrap() error   { return e.err }
func (e *permanent) Permanent() bool { return true }

// As lets errors.As find a *backoff.PermanentError in e, which is how backoff/v4 looks for it.
func (e *permanent) As(target any) bool {
	p, ok := target.(**backoff.PermanentError)
	if ok {
		*p = &backoff.PermanentError{Err: e.err}
	}
	return ok
}

package amqperr

import (
	"errors"
	"slices"

	"github.com/cenkalti/backoff/v4"
)

// Permanent marks err as an error that retrying cannot fix. Handlers, Setup and Declare functions return it to stop
// retries. It keeps the text of err, and errors.Is and errors.As find err and its causes. It also stops the Retry
// functions of backoff/v4. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// IsPermanent reports whether retrying cannot help: err, or an error that it wraps, was marked by [Permanent] or by
// backoff/v4's Permanent, or has a method Permanent() bool that returns true, as [*FieldError] has. If several errors
// of a chain have the method, the outermost one decides. For joined errors, one permanent error is enough.
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

// As lets errors.As find a *backoff.PermanentError in e, which is how backoff/v4 detects it.
func (e *permanent) As(target any) bool {
	p, ok := target.(**backoff.PermanentError)
	if ok {
		*p = &backoff.PermanentError{Err: e.err}
	}
	return ok
}

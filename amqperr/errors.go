package amqperr

import "errors"

// ErrBlocked reports that the broker does not accept messages at the moment, because a memory or disk alarm is
// active.
//
// See https://www.rabbitmq.com/docs/connection-blocked
var ErrBlocked = errors.New("the broker blocks publishing")

// ErrNoConnection reports that there is no connection to the broker. The error next to it is the last failure to connect.
var ErrNoConnection = errors.New("no connection to the broker")

// A FieldError reports an invalid field of a Config, a message or a topology. The value was refused and not sent to
// the broker.
type FieldError struct {
	Package string // the package that refused the value, used as the prefix of the error text
	Field   string // the field as the caller wrote it, such as "URLs[0]", "Queues[2].Name" or "RoutingKey"
	Problem string // the problem, without secrets
	Fix     string // the suggested correction; may be empty
	Broker  string // the version of the broker that does not support the value; empty if no version does
}

func (e *FieldError) Error() string {
	s := e.Field + ": " + e.Problem
	if e.Package != "" {
		s = e.Package + ": " + s
	}
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// Permanent reports whether trying again cannot help, because the caller's data must change. It returns false if only
// the version of the current broker is too old: the next session may use a newer node.
func (e *FieldError) Permanent() bool { return e.Broker == "" }

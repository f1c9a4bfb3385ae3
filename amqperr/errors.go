// Package amqperr defines the errors that several packages of amqpkit return.
package amqperr

import "errors"

// ErrBlocked reports that the broker accepts no messages for now, because an alarm of memory or disk space is raised.
//
// See https://www.rabbitmq.com/docs/connection-blocked
var ErrBlocked = errors.New("the broker blocks publishing")

// A FieldError reports a wrong field of a Config, a message or a topology. It was refused before anything reached the broker.
type FieldError struct {
	Package string // the package that refused it, as the error's prefix
	Field   string // the field, as the caller wrote it: "URLs[0]", "Queues[2].Name", "RoutingKey"
	Problem string // what is wrong with it, never a secret
	Fix     string // what to write instead; may be empty
	Broker  string // the version of the broker that cannot take the value; empty if none can
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

// Permanent reports whether trying again cannot help, because the caller's data has to change. It returns false if only
// the version of the broker at hand is too old: the next session may be on a newer node.
func (e *FieldError) Permanent() bool { return e.Broker == "" }

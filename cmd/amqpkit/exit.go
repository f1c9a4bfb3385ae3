package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
	"github.com/amqpkit/amqpkit/producer"
)

// The exit codes, see rootHelp. 3 is left for commands that compare or check something.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitUndelivered = 4
	exitInterrupted = 130
)

// A codeError is an error with the exit code of the command. Its text is empty if the command has already reported it.
type codeError struct {
	code int
	text string
}

func (e *codeError) Error() string { return e.text }

// usage reports a wrong use of the command. The text ends with the correction.
func usage(format string, args ...any) error {
	return &codeError{exitUsage, fmt.Sprintf(format, args...)}
}

// reported returns an error without a text.
func reported(code int) error { return &codeError{code: code} }

// exitCode returns the exit code for the error of a command.
func exitCode(ctx context.Context, err error) int {
	var coded *codeError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case interrupted(ctx):
		return exitInterrupted
	case isField(err):
		return exitUsage
	}
	return exitFailure
}

func isField(err error) bool {
	var field *amqperr.FieldError
	return errors.As(err, &field)
}

// describe returns the text of an error with the next step of the user, or "" if it was reported.
func (a *app) describe(err error) string {
	text := validate.Unprefixed(err).Error()
	if hint := hint(err); hint != "" && text != "" {
		text += "; " + hint
	}
	return text
}

// hint returns the next step of the user after an error of the broker, or "".
func hint(err error) string {
	switch {
	case errors.Is(err, amqpkit.ErrUnreachable):
		return "amqpkit broker runs one for development"
	case errors.Is(err, producer.ErrNotPublished), errors.Is(err, amqperr.ErrNoConnection): // they have their own
		return ""
	}
	switch wire.Code(err) {
	case 404:
		return "check the name and the virtual host of the URL"
	case 403:
		return "ask for the permission (rabbitmqctl set_permissions)"
	}
	return ""
}

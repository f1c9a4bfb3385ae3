package wire

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// ErrUnconfirmed is producer.ErrUnconfirmed.
var ErrUnconfirmed = errors.New("producer: unconfirmed, may have been stored")

// ErrProducerClosed is producer.ErrClosed.
var ErrProducerClosed = errors.New("producer: closed")

// A FieldError reports a value that was refused before it reached the broker. The public
// packages export it under this name.
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

// A FrameError is the FieldError of a content header that does not fit into a frame of the connection.
type FrameError struct {
	*FieldError
	Over int // bytes by which it is too large
}

func (e *FrameError) Unwrap() error { return e.FieldError }

// IsPermanent reports whether err has a method Permanent that returns true. The outermost error with that method
// decides in a chain; one branch is enough in joined errors.
func IsPermanent(err error) bool {
	if p, ok := err.(interface{ Permanent() bool }); ok {
		return p.Permanent()
	}
	switch u := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() error }:
		return IsPermanent(u.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(u.Unwrap(), IsPermanent)
	}
	return false
}

// Code returns the AMQP reply code in err (404 NOT_FOUND, 406 PRECONDITION_FAILED, …), or 0
// where there is none or where amqp091-go made it up for a local failure.
func Code(err error) int {
	var e *amqp.Error
	if errors.As(err, &e) && e.Server {
		return e.Code
	}
	return 0
}

// HardClose reports whether err says that a connection was closed for a reason that a message can be: because the broker
// could not encode it (541 INTERNAL_ERROR) or amqp091-go could not read it. It is false for a close by an operator, for
// permissions and limits, for a channel's own errors, and for a connection that was lost without a word.
func HardClose(err error) bool {
	var e *amqp.Error
	if !errors.As(err, &e) {
		return false
	}
	if !e.Server {
		// The code is 501 whatever went wrong with reading; only the text tells.
		switch e.Reason {
		case amqp.ErrSyntax.Error(), amqp.ErrFrame.Error(), amqp.ErrFrameTooLarge.Error(), amqp.ErrUnexpectedFrame.Reason, amqp.ErrCommandInvalid.Reason:
			return true
		}
		return false
	}
	switch e.Code {
	case amqp.ConnectionForced, amqp.InvalidPath, amqp.NotAllowed,
		amqp.ContentTooLarge, amqp.NoRoute, amqp.NoConsumers, amqp.AccessRefused, amqp.NotFound, amqp.ResourceLocked, amqp.PreconditionFailed:
		return false
	}
	return true
}

// IsClosed reports whether err says only that the channel or connection was closed before
// the call, so that nothing of it reached the broker.
func IsClosed(err error) bool { return errors.Is(err, amqp.ErrClosed) }

// Printable returns text of a broker or a message for an error message or a line of output, with line breaks,
// escape characters and everything else that is not printable written as Go's escapes.
func Printable(s string) string {
	clean := true
	for _, r := range s {
		clean = clean && r != utf8.RuneError && strconv.IsPrint(r)
	}
	if clean {
		return s
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// Quote quotes s for an error message, cut to a readable length.
func Quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:end], len(s))
}

// ChannelFix returns advice about a channel that could not be opened, or "".
func ChannelFix(err error) string {
	var e *amqp.Error
	switch {
	case errors.Is(err, amqp.ErrChannelMax):
		return "close channels, use another Conn for some of them, or raise channel_max in rabbitmq.conf and in the URL"
	case errors.As(err, &e) && e.Server && e.Code == amqp.NotAllowed && strings.Contains(e.Reason, "channel"):
		return "close channels, or raise the user's limit (rabbitmqctl set_user_limits)"
	}
	return ""
}

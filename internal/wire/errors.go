package wire

import (
	"errors"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Code returns the AMQP reply code in err (404 NOT_FOUND, 406 PRECONDITION_FAILED, …). It returns 0 if err contains no
// code of the broker; amqp091-go generates codes for local failures.
func Code(err error) int {
	var e *amqp.Error
	if errors.As(err, &e) && e.Server {
		return e.Code
	}
	return 0
}

// HardClose reports whether a message may be the reason why a connection was closed: the broker could not encode it (541
// INTERNAL_ERROR), or amqp091-go could not read it. It is false for a close by an operator, for permissions and limits, for a
// channel's errors, and for a connection that was lost without a close method.
func HardClose(err error) bool {
	var e *amqp.Error
	if !errors.As(err, &e) {
		return false
	}
	if !e.Server {
		// The code of every read error is 501, so the text decides.
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

// IsClosed reports whether the channel or connection was closed before the call, so that the broker did not receive it.
func IsClosed(err error) bool { return errors.Is(err, amqp.ErrClosed) }

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

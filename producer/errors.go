package producer

import (
	"errors"
	"fmt"

	"github.com/amqpkit/amqpkit/internal/validate"
)

var (
	// ErrClosed is the cause where the Producer was closed, or its connection for good.
	ErrClosed error = closed("producer: closed")

	// ErrConfirmTimeout is the cause where the broker left a message unconfirmed for
	// Config.ConfirmTimeout.
	ErrConfirmTimeout = errors.New("producer: no confirm within the timeout")

	// ErrNotPublished reports that no queue got the message: it is invalid, its exchange is
	// missing, the user may not write to it, the Producer is closed, or ctx ended while it
	// waited. Publishing it again cannot duplicate it.
	// A refusal for a missing exchange is remembered for up to a second: until then it is also the outcome of
	// messages that are published after the exchange was declared.
	ErrNotPublished = errors.New("producer: not published")

	// ErrUnconfirmed reports that the message was handed over and its outcome is unknown: it
	// may have been stored. Publishing it again may duplicate it. Once one attempt had an
	// unknown outcome, every later failure of the message is ErrUnconfirmed too. If RabbitMQ
	// refuses one of several messages that its reason may mean, each of them is ErrUnconfirmed.
	ErrUnconfirmed error = unconfirmed("producer: unconfirmed, may have been stored")

	// ErrNacked reports that the broker refused the message (basic.nack), for example because
	// a queue is full and its overflow is reject-publish. Where several queues were to get it,
	// some may have.
	ErrNacked = errors.New("producer: refused by the broker")
)

var errNotReady = errors.New("producer: not ready")

// An unconfirmed error has the method by which package retry, which does not import this one, recognises an unknown outcome.
type unconfirmed string

func (e unconfirmed) Error() string { return string(e) }

func (unconfirmed) MaybeDelivered() bool { return true }

// A closed error has the method by which package retry recognises that every later publish will fail too.
type closed string

func (e closed) Error() string { return string(e) }

func (closed) Closed() bool { return true }

// A ReturnedError reports a message that no queue is bound for (basic.return). Nothing has
// stored it. Bind a queue, correct the routing key, or allow it with Config.AllowUnroutable.
type ReturnedError struct {
	Code          int    // AMQP reply code: 312 NO_ROUTE
	Text          string // the broker's words
	Exchange, Key string // where it was published to
}

func (e *ReturnedError) Error() string {
	return fmt.Sprintf("producer: returned: %d %s: no queue is bound to %s for key %s",
		e.Code, validate.Printable(e.Text), exchangeName(e.Exchange), validate.Quote(e.Key))
}

// MaybeDelivered reports whether a message with this outcome may have reached its queue. It returns true for nil,
// ErrUnconfirmed, errors with a method MaybeDelivered that returns true, and errors of other packages. It returns
// false for a message that was never sent, returned or nacked. Another queue that is bound for the message may still
// hold a nacked one.
func MaybeDelivered(err error) bool {
	var unknown interface{ MaybeDelivered() bool }
	if errors.As(err, &unknown) && unknown.MaybeDelivered() {
		return true
	}
	var returned *ReturnedError
	return !errors.Is(err, ErrNotPublished) && !errors.Is(err, ErrNacked) && !errors.As(err, &returned)
}

func exchangeName(s string) string {
	if s == "" {
		return "the default exchange"
	}
	return "exchange " + validate.Quote(s)
}

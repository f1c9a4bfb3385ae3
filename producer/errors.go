package producer

import (
	"errors"
	"fmt"

	"github.com/amqpkit/amqpkit/internal/validate"
)

var (
	// ErrClosed is the cause if the Producer was closed, or its Connection was closed for good.
	ErrClosed error = closed("producer: closed")

	// ErrConfirmTimeout is the cause if the broker did not confirm a message within Config.ConfirmTimeout.
	ErrConfirmTimeout = errors.New("producer: no confirm within the timeout")

	// ErrNotPublished reports that no queue has the message: it is invalid, its exchange does not
	// exist, the user may not write to the exchange, the Producer is closed, or ctx ended before the message was sent.
	// With Config.FailFast it also reports that there is no connection or that the broker blocks publishing.
	// Publishing it again cannot duplicate it.
	// The Producer remembers for up to a second that an exchange does not exist, also if it is declared meanwhile.
	ErrNotPublished = errors.New("producer: not published")

	// ErrUnconfirmed reports that the message was sent and its outcome is unknown: it may have been stored.
	// Publishing it again may duplicate it. After an attempt with an unknown outcome, every later failure of the
	// message is ErrUnconfirmed too. If RabbitMQ refuses a message for a reason that fits several messages, each of them
	// is ErrUnconfirmed.
	ErrUnconfirmed error = unconfirmed("producer: unconfirmed, may have been stored")

	// ErrNacked reports that the broker refused the message (basic.nack), for example because a queue is full and its
	// overflow is reject-publish. If the message was routed to several queues, some of them may have stored it.
	ErrNacked = errors.New("producer: refused by the broker")
)

var errNotReady = errors.New("producer: not ready")

// An unconfirmed error has the method by which package retry, which does not import this one, recognises an unknown outcome.
type unconfirmed string

func (e unconfirmed) Error() string { return string(e) }

func (unconfirmed) MaybeDelivered() bool { return true }

// A closed error has the method by which package parking recognises that every later publish will fail too.
type closed string

func (e closed) Error() string { return string(e) }

func (closed) Closed() bool { return true }

// A ReturnedError reports a message for which no queue is bound (basic.return). No queue has stored it. Bind a
// queue, correct the routing key, or set Config.AllowUnroutable.
type ReturnedError struct {
	Code          int    // AMQP reply code: 312 NO_ROUTE
	Text          string // the broker's reply text
	Exchange, Key string // where it was published to
}

func (e *ReturnedError) Error() string {
	return fmt.Sprintf("producer: returned: %d %s: no queue is bound to %s for key %s",
		e.Code, validate.Printable(e.Text), exchangeName(e.Exchange), validate.Quote(e.Key))
}

// MaybeDelivered reports whether a message with this outcome may have reached its queue. It returns true for nil,
// ErrUnconfirmed, errors with a method MaybeDelivered that returns true, and errors of other packages. It returns
// false for a message that was refused before sending, returned or nacked. Another queue that is bound for the message may still
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

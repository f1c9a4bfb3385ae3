package consumer

import (
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

var (
	// ErrRunning reports a second Run on a Consumer whose first one has not returned.
	ErrRunning = errors.New("consumer: already running")

	// ErrNotSubscribed reports that a Consumer has no subscription yet, or none any more: Run has not been called, has not
	// subscribed yet, or has returned. The reason is wrapped next to it, if there is one.
	ErrNotSubscribed = errors.New("consumer: not subscribed")

	// ErrSettledByResult reports that a handler tried to settle its delivery itself. Nothing
	// was sent. Return nil, Reject, Requeue or another error instead.
	ErrSettledByResult = errors.New("consumer: the handler's result settles this delivery")

	// ErrAlreadySettled reports a second Ack, Nack or Reject of one delivery. Nothing was
	// sent: RabbitMQ would have closed the channel with 406.
	ErrAlreadySettled = errors.New("consumer: delivery already settled")

	// ErrStaleDelivery reports that the channel a delivery came from is gone. Nothing was
	// sent, and RabbitMQ delivers the message again.
	ErrStaleDelivery = errors.New("consumer: delivery is stale: its channel is gone and the message returns to its queue")
)

// SubscribeError says why a Consumer is not consuming. It wraps the cause, an *amqp.Error
// where the broker refused, context.DeadlineExceeded where it did not answer within ten seconds
// (a minute for Config.Declare), for which the connection was cut. Run retries and does not return it unless Config.Backoff gave up
// or the cause can never heal.
type SubscribeError struct {
	Queue string
	Err   error
}

func (e *SubscribeError) Error() string {
	s := fmt.Sprintf("consumer: subscribe to queue %s: %v", validate.Quote(e.Queue), unprefixed(e.Err))
	if fix := e.fix(); fix != "" {
		s += "; " + fix
	}
	return s
}

func (e *SubscribeError) Unwrap() error { return e.Err }

// fix is what a person can do about it.
func (e *SubscribeError) fix() string {
	switch wire.Code(e.Err) {
	case 403:
		if inUse(e.Err) {
			return "another consumer has exclusive use of the queue: stop it, or use a single active consumer (x-single-active-consumer) to stand by for it"
		}
		return "grant the user the permission: consuming needs read permission for the queue"
	case 404:
		if !isMissing(e.Err) {
			return "start the node that holds the queue again"
		}
		return "declare the queue, or the exchange, in Config.Declare or in the connection's Setup, which a Conn runs again when a queue is missing; or check its name and virtual host"
	case 405:
		return "the queue belongs to another connection: declare an exclusive queue in Config.Declare"
	}
	return wire.ChannelFix(e.Err)
}

// LostError says how a subscription that worked came to its end. Err reports it until the
// next one stands.
type LostError struct {
	Queue string
	Err   error // nil after a basic.cancel: the broker gives no reason for it

	// Oldest is how long the oldest unsettled delivery had been with this consumer; zero means
	// that there was none. About as long as the consumer timeout, 30 minutes by default, it
	// tells why RabbitMQ cancelled.
	Oldest time.Duration
}

func (e *LostError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("consumer: lost the subscription to queue %s: %v", validate.Quote(e.Queue), unprefixed(e.Err))
	}
	oldest := "no delivery was unsettled"
	if e.Oldest > 0 {
		oldest = fmt.Sprintf("the oldest had been unsettled for %v", e.Oldest.Round(time.Millisecond))
	}
	return fmt.Sprintf("consumer: RabbitMQ cancelled the consumer of queue %s: the queue was deleted or moved, or a delivery was not settled within the consumer timeout (%s)",
		validate.Quote(e.Queue), oldest)
}

func (e *LostError) Unwrap() error { return e.Err }

// An UnreadableError reports a message whose headers amqp091-go cannot read: they are nested deeper than 32, have more
// than 8192 entries in one table, hold a field of an unknown type, or do not fit into a frame of the connection, as when
// RabbitMQ adds its own headers to a redelivery. amqp091-go would give up the connection; a connection of amqpkit replaces
// the headers instead, and the body and the other properties arrive.
//
// A Consumer rejects such a message without the handler, so that it goes to the dead-letter exchange or is dropped, and
// logs this error. On a stream it skips the message.
type UnreadableError struct {
	Queue     string
	MessageID string
	Reason    string
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("consumer: message %s in queue %s cannot be read: %s; remove it, or read it with another client",
		validate.Quote(e.MessageID), validate.Quote(e.Queue), e.Reason)
}

// DrainError reports what Run could not bring to its end. It wraps the *LostError if the
// subscription was lost.
type DrainError struct {
	// Unfinished is how many handlers had not returned when the drain time was over. Their
	// ctx was cancelled then. Those that returned within the next half second were settled
	// by their result; the messages of the others return to the queue.
	Unfinished int

	// Running is how many of these ignored the end of their ctx and still run.
	Running int

	// Unsettled is how many deliveries come again, or may, although handlers finished them or
	// Run was to give them back: the subscription was lost in the drain, or before it with no
	// other to follow, and their settlement did not reach the broker for sure.
	Unsettled int

	// DrainTimeout is the drain time, Config.DrainTimeout.
	Timeout time.Duration

	// Err is how the subscription was lost, if Unsettled is not zero.
	Err error
}

func (e *DrainError) Error() string {
	var parts []string
	if e.Unfinished > 0 {
		parts = append(parts, fmt.Sprintf("%d handlers had not returned %v after the end of Run's ctx, %d of them still run",
			e.Unfinished, e.Timeout, e.Running))
	}
	if e.Unsettled > 0 {
		parts = append(parts, fmt.Sprintf("the settlement of %d deliveries may not have reached RabbitMQ, which then delivers them again: %v",
			e.Unsettled, unprefixed(e.Err)))
	}
	return "consumer: " + strings.Join(parts, "; ")
}

func (e *DrainError) Unwrap() error { return e.Err }

// PanicError is a handler's panic. A middleware sees it as the error of the handler within.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // the goroutine's stack at the panic
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// isMissing reports whether the broker refused a call because a queue or an exchange does not exist. With the
// same code, 404, it refuses a queue whose node is down: no Setup brings that back.
func isMissing(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && e.Code == amqp.NotFound &&
		(strings.Contains(e.Reason, "no queue '") || strings.Contains(e.Reason, "no exchange '"))
}

// exists reports whether the broker refused a call in a way that proves that the queue exists.
func exists(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && (e.Code == amqp.ResourceLocked || inUse(err))
}

// inUse reports whether another consumer has exclusive use of the queue.
func inUse(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && e.Code == amqp.AccessRefused && strings.Contains(e.Reason, "exclusive use")
}

// An unprefixedError leaves out the package's name, which the error around it begins with.
type unprefixedError struct{ error }

func unprefixed(err error) error { return unprefixedError{err} }

func (e unprefixedError) Error() string {
	text := e.error.Error()
	for _, prefix := range []string{"consumer: ", "amqpkit: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

func (e unprefixedError) Unwrap() error { return e.error }

package consumer

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

var (
	// ErrRunning reports a call of Run while another Run of the same Consumer has not returned.
	ErrRunning = errors.New("consumer: already running")

	// ErrNotSubscribed reports that a Consumer has no subscription: Run has not been called, has not subscribed yet,
	// or has returned. The reason, if there is one, is wrapped next to it.
	ErrNotSubscribed = errors.New("consumer: not subscribed")

	// ErrAlreadySettled reports a second Ack, Nack or Reject of a delivery, or any of them in a handler, whose result
	// settles the delivery. Nothing was sent: RabbitMQ would have closed the channel with 406.
	ErrAlreadySettled = errors.New("consumer: delivery already settled")

	// ErrStaleDelivery reports that the channel of a delivery was closed. Nothing was sent, and RabbitMQ redelivers
	// the message.
	ErrStaleDelivery = errors.New("consumer: delivery is stale: its channel was closed and the message is redelivered")

	errSettledByResult = fmt.Errorf("%w by the handler's result", ErrAlreadySettled)
)

// SubscribeError reports a failed attempt to subscribe. Run tries again, and returns it only if Config.Backoff gave
// up or the cause is permanent.
type SubscribeError struct {
	Queue string // the queue to consume from; Config.Queue if Config.Declare failed

	// Err is the cause: an *amqp.Error if the broker refused, or an error that wraps context.DeadlineExceeded if the
	// broker did not answer within ten seconds (a minute for Config.Declare). After such a timeout the connection is
	// closed.
	Err error
}

func (e *SubscribeError) Error() string {
	s := fmt.Sprintf("consumer: subscribe to queue %s: %v", validate.Quote(e.Queue), validate.Unprefixed(e.Err))
	if fix := e.fix(); fix != "" {
		s += "; " + fix
	}
	return s
}

func (e *SubscribeError) Unwrap() error { return e.Err }

// fix returns advice for the user, or "".
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

// LostError reports the loss of a subscription. Consumer.Err returns it until the next subscription.
type LostError struct {
	Queue string // the queue of the subscription
	Err   error  // the cause; nil after a basic.cancel, for which the broker gives no reason

	// Oldest is the time for which the oldest unsettled delivery had been unsettled. Zero means that all were
	// settled. A time near the consumer timeout, 30 minutes by default, explains a basic.cancel.
	Oldest time.Duration
}

func (e *LostError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("consumer: lost the subscription to queue %s: %v", validate.Quote(e.Queue), validate.Unprefixed(e.Err))
	}
	oldest := "no delivery was unsettled"
	if e.Oldest > 0 {
		oldest = fmt.Sprintf("the oldest had been unsettled for %v", e.Oldest.Round(time.Millisecond))
	}
	return fmt.Sprintf("consumer: RabbitMQ cancelled the consumer of queue %s: the queue was deleted or moved, or a delivery was not settled within the consumer timeout (%s)",
		validate.Quote(e.Queue), oldest)
}

func (e *LostError) Unwrap() error { return e.Err }

// An UnreadableError reports a message whose headers amqp091-go cannot read. They are nested deeper than 32, have
// more than 8192 entries in one table, contain a field of an unknown type, or do not fit into a frame of the
// connection, for example because RabbitMQ added its own headers to a redelivery. amqp091-go alone would close the
// connection. A connection of amqpkit replaces the headers instead, so that the body and the other properties arrive.
//
// A Consumer rejects such a message without calling the handler, so that it is dead-lettered or dropped, and logs
// this error. On a stream it skips the message.
type UnreadableError struct {
	Queue     string // the queue of the message
	MessageID string // the message id, which may be empty
	Reason    string // the reason why amqp091-go cannot read the headers
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("consumer: message %s in queue %s cannot be read: %s; remove it, or read it with another client",
		validate.Quote(e.MessageID), validate.Quote(e.Queue), e.Reason)
}

// DrainError reports an incomplete shutdown of Run. It wraps the *LostError if the subscription was lost.
type DrainError struct {
	// Unfinished is the number of handlers that had not returned when Config.DrainTimeout elapsed. Their ctx was
	// cancelled then. If they returned within the next half second, their result settled the delivery. The messages
	// of the others are redelivered.
	Unfinished int

	// Running is the number of these handlers that ignored the end of their ctx and are still running.
	Running int

	// Unsettled is the number of deliveries that are or may be redelivered although handlers finished them or Run
	// tried to requeue them. The subscription was lost during the drain, or before it without a new one, and the
	// settlements may not have reached the broker.
	Unsettled int

	// Err is the cause of the lost subscription. It is nil if Unsettled is zero.
	Err error

	drain time.Duration // Config.DrainTimeout
}

func (e *DrainError) Error() string {
	var parts []string
	if e.Unfinished > 0 {
		parts = append(parts, fmt.Sprintf("%d handlers had not returned %v after Run's ctx ended, and %d are still running",
			e.Unfinished, e.drain, e.Running))
	}
	if e.Unsettled > 0 {
		parts = append(parts, fmt.Sprintf("the settlements of %d deliveries may not have reached RabbitMQ, which then redelivers the messages: %v",
			e.Unsettled, validate.Unprefixed(e.Err)))
	}
	return "consumer: " + strings.Join(parts, "; ")
}

func (e *DrainError) Unwrap() error { return e.Err }

// PanicError is a panic of a handler. A middleware gets it as the error of the handler that it wraps.
type PanicError struct {
	Value any    // the argument of panic
	Stack []byte // the goroutine's stack at the panic
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// failureKind returns a key of a *SubscribeError or *LostError that is equal when the failure repeats. The text may
// differ: it can contain the local port of the connection, or a time.
func failureKind(err error) string {
	var lost *LostError
	var closed *amqp.Error
	var socket *net.OpError
	switch {
	case errors.As(err, &closed) && closed.Server:
		return closed.Error()
	case closed != nil:
		return strconv.Itoa(closed.Code)
	case errors.As(err, &socket):
		return socket.Op
	case errors.As(err, &lost):
		return "lost"
	}
	return err.Error()
}

// isMissing reports whether the broker refused a call because a queue or an exchange does not exist. The broker uses
// the same code, 404, for a queue whose node is down, which Setup cannot restore.
func isMissing(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && e.Code == amqp.NotFound &&
		(strings.Contains(e.Reason, "no queue '") || strings.Contains(e.Reason, "no exchange '"))
}

// exists reports whether the broker's refusal proves that the queue exists.
func exists(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && (e.Code == amqp.ResourceLocked || inUse(err))
}

// inUse reports whether another consumer has exclusive use of the queue.
func inUse(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && e.Code == amqp.AccessRefused && strings.Contains(e.Reason, "exclusive use")
}

package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Receipt reports the outcome of a message that PublishAsync accepted.
type Receipt struct {
	msg    Message
	ctx    context.Context // bounds the message's life
	window *window         // that it was submitted to
	twin   uint64          // equal for messages whose returns look the same; 0: its message id is unique
	header int32           // payload size of the content header frame

	probe    bool  // of Ready: it ends when it could be sent
	received bool  // Republish: always mandatory, and sent as it was received
	faults   uint8 // see maxFaults; owned by Producer.run
	state    state // guarded by window.mu

	done chan struct{}
	err  error // the outcome, once done is closed

	// Guarded by window.mu.
	in         *list // the list that contains it
	prev, next *Receipt
	admitted   chan struct{} // closed when there is room; nil unless someone waits for it
	unwatch    func() bool   // stops watching ctx

	// unknown is the cause of the first attempt whose outcome is unknown. It is written between
	// attempts, under window.mu.
	unknown error

	// Owned by the session that the message was sent on.
	confirm *amqp.DeferredConfirmation // nil when sending failed, with sendErr
	sendErr error
	sentAt  time.Time
}

// Done is closed when the outcome is known.
func (r *Receipt) Done() <-chan struct{} { return r.done }

// MessageID returns the message id that the message carries.
func (r *Receipt) MessageID() string { return r.msg.Publishing.MessageId }

// forget drops the content of a message that has its outcome. The caller may keep the Receipt for long.
func (r *Receipt) forget() {
	r.msg.Publishing.Body, r.msg.Publishing.Headers = nil, nil
}

// Wait waits for the outcome and returns it as Publish does. If ctx ends first, it returns ErrUnconfirmed and the cause
// of ctx. The message stays in flight, and Wait may be called again.
func (r *Receipt) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	default:
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return r.describe(ErrUnconfirmed, r.window.explain(context.Cause(ctx)))
	}
}

// failure returns the error of an outcome: ErrNotPublished, ErrNacked, ErrUnconfirmed or a
// *ReturnedError, which needs no further description. After an attempt with an unknown outcome the error is
// ErrUnconfirmed. A later outcome is then only part of its text, so that no error is two outcomes. Its cause can be
// unwrapped.
func (r *Receipt) failure(kind, cause error) error {
	var returned *ReturnedError
	switch {
	case r.unknown == nil && errors.As(kind, &returned):
		return returned
	case r.unknown == nil:
		return r.describe(kind, cause)
	case cause == nil:
		cause = errors.New(kind.Error())
	}
	return r.describe(ErrUnconfirmed, fmt.Errorf("%w; an earlier attempt: %w", validate.Unprefixed(cause), validate.Unprefixed(r.unknown)))
}

func (r *Receipt) describe(kind, cause error) error {
	if r.probe {
		return fmt.Errorf("%w: %w", errNotReady, validate.Unprefixed(cause))
	}
	message := "message"
	if id := r.MessageID(); id != "" {
		message += " " + validate.Quote(id)
	}
	message += " to " + exchangeName(r.msg.Exchange) + ", key " + validate.Quote(r.msg.Key)
	if cause == nil {
		return fmt.Errorf("%w: %s", kind, message)
	}
	return fmt.Errorf("%w: %s: %w", kind, message, validate.Unprefixed(cause))
}

package wire

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Grace is how long a call may outlast its ctx before its link is killed. A healthy broker
// answers within it, so that ending one caller's ctx does not cost its neighbours their
// connection.
const Grace = 150 * time.Millisecond

// Call runs f, a synchronous protocol call on connection ac, and returns its result.
//
// amqp091-go's calls know no ctx. When ctx ends first, f has Grace to finish; then the link
// is killed, because a reply that came later would be taken for the answer to another
// request, and Call returns the cause of ctx's end. f must do nothing but call the protocol:
// it may still be running for a moment when Call has returned.
func Call[T any](ctx context.Context, ac *amqp.Connection, f func() (T, error)) (T, error) {
	var none T
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
	}
	late := time.NewTimer(Grace)
	defer late.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-late.C:
		Kill(ac)
		return none, context.Cause(ctx)
	}
}

// Do is Call for a function without a result.
func Do(ctx context.Context, ac *amqp.Connection, f func() error) error {
	_, err := Call(ctx, ac, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// Channel opens a channel on ac.
func Channel(ctx context.Context, ac *amqp.Connection) (*amqp.Channel, error) {
	return Call(ctx, ac, ac.Channel)
}

// Close closes ac with the broker's consent, or kills the link when ctx ends first. A
// connection that is closed already is no error.
func Close(ctx context.Context, ac *amqp.Connection) error {
	err := Do(ctx, ac, ac.Close)
	if err != nil {
		Kill(ac)
	}
	if IsClosed(err) {
		return nil
	}
	return err
}

package wire

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Grace is the time that a call may outlast its ctx before its link is killed. A healthy broker answers within it, so the end of one
// caller's ctx does not close the connection of the others.
const Grace = 150 * time.Millisecond

// The default pauses between attempts to connect or to subscribe are random, up to a bound that doubles from FirstPause to MaxPause.
const (
	FirstPause = 20 * time.Millisecond
	MaxPause   = 800 * time.Millisecond
)

// Call runs f, a synchronous protocol call on connection ac, and returns its result.
//
// amqp091-go's calls take no ctx. If ctx ends first, f has Grace to finish. Then Call kills the link and returns the
// cause of ctx, because a late reply would be taken for the answer to another request. f must only call the protocol,
// because it may still run for a moment after Call has returned.
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

// Close closes ac with a handshake, or kills the link if ctx ends first. It returns nil if ac is closed already.
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

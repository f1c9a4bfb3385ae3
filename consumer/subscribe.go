package consumer

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// How long the broker may take to answer. A link can be alive and a request stay without an
// answer: a quorum queue whose leader is gone kept basic.consume waiting for more than a minute.
// Then the connection is cut, because that is the only way to take a request back, and another
// node may be tried.
const (
	subscribeTime = 10 * time.Second
	declareTime   = time.Minute
)

var (
	errNoSubscribe = fmt.Errorf("RabbitMQ did not answer within %v, the connection was cut: %w", subscribeTime, context.DeadlineExceeded)
	errNoDeclare   = fmt.Errorf("Config.Declare took longer than %v, the connection was cut: %w", declareTime, context.DeadlineExceeded)
)

// A subscriber makes the sessions of a Run.
type subscriber struct{ connector }

// subscribe makes a session. Its calls are not cut when ctx ends: a healthy broker answers
// soon, and cutting one means to close a connection that others share.
func (b *subscriber) subscribe(ctx context.Context) (s *session, err error) {
	cfg := &b.state.cfg
	ac, own, err := b.connection(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && own {
			wire.Kill(ac)
		}
	}()
	queue := cfg.Queue
	if cfg.Declare != nil {
		name, err := b.declare(ac)
		if err != nil {
			return nil, &SubscribeError{Queue: queue, Err: err}
		}
		if name != "" {
			queue = name
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	prefetch := cfg.Prefetch
	if b.poison.raised {
		prefetch = 1
	}
	s, err = b.consumeOn(ac, queue, prefetch)
	if err != nil {
		if own && wire.Code(err) == amqp.ResourceLocked { // an exclusive queue of the shared connection, from its Setup
			b.poison.alone = false
		}
		return nil, err
	}
	s.own = own
	if b.poison.raised {
		s.trial = b.poison.trial()
	}
	return s, nil
}

// consumeOn makes a session of a queue on a connection.
func (b *subscriber) consumeOn(ac *amqp.Connection, queue string, prefetch int) (*session, error) {
	calls, cancel := context.WithTimeoutCause(b.state.shutdown.calls, subscribeTime, errNoSubscribe)
	defer cancel()
	s, err := newSession(calls, b.state, ac, queue, prefetch)
	if err != nil {
		return nil, &SubscribeError{Queue: queue, Err: err}
	}
	if err := s.subscribe(calls); err != nil {
		s.end(err)
		b.state.position.refused(queue, err)
		return nil, &SubscribeError{Queue: queue, Err: err}
	}
	return s, nil
}

// declare runs Config.Declare and checks the name that it returns: a bad one would cost the
// connection, and all that use it.
func (b *subscriber) declare(ac *amqp.Connection) (name string, err error) {
	ctx, cancel := context.WithTimeoutCause(b.state.shutdown.calls, declareTime, errNoDeclare)
	defer cancel()
	// A Declare that calls amqp091-go directly does not see its ctx: its calls end with the link.
	defer context.AfterFunc(ctx, func() { wire.Kill(ac) })()
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if name, err = b.state.cfg.Declare(ctx, ac); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w; Declare: %w", context.Cause(ctx), err)
		}
		return "", err
	}
	wrong := func(problem, fix string) error {
		return &amqperr.FieldError{Package: "consumer", Field: "Declare", Problem: problem, Fix: fix}
	}
	if name == "" && b.state.cfg.Queue == "" {
		return "", wrong("returned no queue name, and Queue is empty", "return the name the server gave")
	}
	if p := validate.Name(name); p != nil {
		return "", wrong("returned a queue name that cannot be: "+p.Problem, p.Fix)
	}
	return name, nil
}

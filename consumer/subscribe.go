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

// Time limits for answers of the broker. A connection can be alive while a request is never answered: a quorum queue
// that had lost its leader delayed basic.consume for more than a minute. After the limit the connection is closed,
// because a request cannot be cancelled otherwise. The next connection may use another node.
const (
	subscribeTime = 10 * time.Second
	declareTime   = time.Minute
)

var (
	errSubscribeTimeout = fmt.Errorf("RabbitMQ did not answer within %v, the connection was closed: %w", subscribeTime, context.DeadlineExceeded)
	errDeclareTimeout   = fmt.Errorf("Config.Declare took longer than %v, the connection was closed: %w", declareTime, context.DeadlineExceeded)
)

// A subscriber creates the sessions of a Run.
type subscriber struct{ connector }

// subscribe creates a session. The end of ctx does not interrupt its calls: a healthy broker answers soon, and an
// interrupted call closes the connection, which others share.
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
		if own && wire.Code(err) == amqp.ResourceLocked { // Setup declared an exclusive queue on the shared connection
			b.poison.dedicated = false
		}
		return nil, err
	}
	s.own = own
	if b.poison.raised {
		s.trial = b.poison.trial()
	}
	return s, nil
}

// consumeOn creates a session for a queue on a connection.
func (b *subscriber) consumeOn(ac *amqp.Connection, queue string, prefetch int) (*session, error) {
	calls, cancel := context.WithTimeoutCause(b.state.shutdown.calls, subscribeTime, errSubscribeTimeout)
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

// declare runs Config.Declare and checks the returned name: RabbitMQ would close the connection for an invalid one.
func (b *subscriber) declare(ac *amqp.Connection) (name string, err error) {
	ctx, cancel := context.WithTimeoutCause(b.state.shutdown.calls, declareTime, errDeclareTimeout)
	defer cancel()
	// A Declare that calls amqp091-go directly does not see its ctx; closing the connection ends its calls.
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
		return "", wrong("returned no queue name, and Queue is empty", "return the name that the server generated")
	}
	if p := validate.Name(name); p != nil {
		return "", wrong("returned an invalid queue name: "+p.Problem, p.Fix)
	}
	return name, nil
}

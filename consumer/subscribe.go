package consumer

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime/debug"
	"strings"
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

// subscribe makes a session. Its calls are not cut when ctx ends: a healthy broker answers
// soon, and cutting one means to close a connection that others share.
func (r *run) subscribe(ctx context.Context) (s *session, err error) {
	ac, own, err := r.connection(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && own {
			wire.Kill(ac)
		}
	}()
	queue := r.cfg.Queue
	if r.cfg.Declare != nil {
		name, err := r.declare(ac)
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
	prefetch := r.cfg.Prefetch
	if r.poison.raised {
		prefetch = 1
	}
	s, err = r.consumeOn(ac, queue, prefetch)
	if err != nil {
		if own && wire.Code(err) == amqp.ResourceLocked { // an exclusive queue of the shared connection, from its Setup
			r.poison.alone = false
		}
		return nil, err
	}
	s.own, s.narrow = own, r.poison.raised
	return s, nil
}

// consumeOn makes a session of a queue on a connection.
func (r *run) consumeOn(ac *amqp.Connection, queue string, prefetch int) (*session, error) {
	calls, cancel := context.WithTimeoutCause(r.calls, subscribeTime, errNoSubscribe)
	defer cancel()
	ch, err := wire.Channel(calls, ac)
	if err != nil {
		return nil, &SubscribeError{Queue: queue, Err: err}
	}
	s := &session{
		run:   r,
		ac:    ac,
		ch:    ch,
		gone:  ch.IsClosed,
		queue: queue,
		tag:   r.cfg.newTag(queue),
		log:   r.cfg.Logger.With("queue", queue),
		began: time.Now(),
		// Buffered, because amqp091-go's reader waits up to five seconds for a full listener
		// and then drops the event.
		closed:    ch.NotifyClose(make(chan *amqp.Error, 1)),
		cancelled: ch.NotifyCancel(make(chan string, 1)),
		inbox:     inbox{arrived: make(chan struct{}, 1)},
		batch:     wire.BatchOn(ac),
		ledger:    ledger{window: prefetch},
	}
	s.deliveries, err = wire.Call(calls, ac, func() (<-chan amqp.Delivery, error) {
		if err := ch.Qos(prefetch, 0, false); err != nil {
			return nil, err
		}
		return ch.Consume(queue, s.tag, false, r.cfg.Exclusive, false, false, r.arguments(queue))
	})
	if err != nil {
		s.end(err)
		r.refusedStream(queue, err)
		return nil, &SubscribeError{Queue: queue, Err: err}
	}
	s.subscribedStream(calls, s.began)
	return s, nil
}

// declare runs Config.Declare and checks the name that it returns: a bad one would cost the
// connection, and all that use it.
func (r *run) declare(ac *amqp.Connection) (name string, err error) {
	ctx, cancel := context.WithTimeoutCause(r.calls, declareTime, errNoDeclare)
	defer cancel()
	// A Declare that calls amqp091-go directly does not see its ctx: its calls end with the link.
	defer context.AfterFunc(ctx, func() { wire.Kill(ac) })()
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if name, err = r.cfg.Declare(ctx, ac); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w; Declare: %w", context.Cause(ctx), err)
		}
		return "", err
	}
	wrong := func(problem, fix string) error {
		return &amqperr.FieldError{Package: "consumer", Field: "Declare", Problem: problem, Fix: fix}
	}
	if name == "" && r.cfg.Queue == "" {
		return "", wrong("returned no queue name, and Queue is empty", "return the name the server gave")
	}
	if p := validate.Name(name); p != nil {
		return "", wrong("returned a queue name that cannot be: "+p.Problem, p.Fix)
	}
	return name, nil
}

// newTag returns a consumer tag: a readable beginning and a random end.
func (c Config) newTag(queue string) string {
	tag := c.TagPrefix
	if tag == "" {
		tag = strings.ToValidUTF8(queue[:min(len(queue), maxTag)], "")
	}
	return tag + "-" + rand.Text()[:tagSuffix]
}

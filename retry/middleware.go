package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/logs"
)

// Middleware returns the middleware that retries and parks messages. If the handler fails, the message is published to a wait queue
// or to the parking queue, and the original is acknowledged after RabbitMQ has confirmed the copy. [MoveError] describes
// moves that fail. The result of the handler decides:
//
//	nil                      acknowledged
//	consumer.Requeue(d)      requeued after d, which is not an attempt
//	consumer.Reject(err)     parked at once; consumer.JSON rejects bodies that it cannot decode
//	amqperr.Permanent(err)   parked at once, like any other permanent error
//	retry.After(d, err)      retried after d, within the policy
//	an error with a Rule     the action of the rule
//	any other error, a panic,
//	runtime.Goexit           the policy
//
// The handler runs on a separate goroutine, and the middleware waits for it. Its Delivery has the exchange, routing key,
// expiration and CC header with which the message was first published. The handler may assign to the fields of the Delivery; the
// copy is made from the original. Body and Headers are shared with the original: changes inside them are part of the copy.
//
// Middleware that wraps a single attempt, such as consumer.Timeout and consumer.Decompress, belongs after this one.
func (p *Plan) Middleware(to Publisher) consumer.Middleware {
	r := &runner{Plan: p, to: to, log: logs.For(p.cfg.Logger, to)}
	return func(next consumer.Handler) consumer.Handler {
		return func(ctx context.Context, d *consumer.Delivery) error {
			if d.Queue != p.cfg.Queue {
				err := fault("Queue", fmt.Sprintf("the plan is for %q, the delivery came from %q", p.cfg.Queue, d.Queue), "make a plan for each queue")
				r.warnings.Warn(ctx, r.log, "queue", "retry: message requeued, its handler was not called", slog.Any("error", err))
				return consumer.Requeue(lastHold, err)
			}
			m := &message{runner: r, d: d, record: history.Read(&d.Delivery, d.Queue)}
			return m.run(ctx, next)
		}
	}
}

// RoutingKey returns the routing key with which a message was first published, also after it came from a wait
// queue. Use it as consumer.Config.Key to keep the order of messages with the same routing key.
func RoutingKey(d *consumer.Delivery) string {
	return history.Read(&d.Delivery, d.Queue).Key
}

func (m *message) run(ctx context.Context, next consumer.Handler) error {
	if s, ok := m.pending(ctx); ok {
		return m.move(ctx, s)
	}
	for {
		m.attempt(ctx, next)
		f := m.failure
		if f == nil {
			return m.result
		}
		now := time.Now()
		m.record.Add(f.text, f.kind, now)
		if f.action == Discard && !f.rejected {
			m.logAt(ctx, slog.LevelInfo, "retry: message failed and was discarded")
			return nil
		}
		s := m.decide(now)
		if s.queue != "" {
			return m.move(ctx, s)
		}
		m.logAt(ctx, slog.LevelInfo, "retry: message failed, its worker waits", slog.Duration("delay", s.delay))
		m.waited += s.delay
		if !pause(ctx, s.delay) {
			return consumer.Requeue(firstHold) // the attempts since the delivery are repeated
		}
		if m.d.Stale() {
			return consumer.ErrStaleDelivery // the attempts continue with the redelivery
		}
	}
}

// pause returns true after d, and false as soon as the Run shuts down. A deadline of ctx, from a consumer.Timeout around
// the middleware, is ignored: it would repeat the attempts indefinitely.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-consumer.Draining(ctx):
			return false
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return false
			}
			ctx = context.WithoutCancel(ctx) //nolint:fatcontext // at most once
		}
	}
}

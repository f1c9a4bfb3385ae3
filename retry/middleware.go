package retry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/logs"
)

// A Publisher publishes received messages again; *producer.Producer is one. Republish publishes with the mandatory flag and returns
// nil only if the message was routed to a queue and confirmed. If it cannot send a header, it returns a
// *[amqperr.FieldError] for that field, and the Plan publishes the message without that header.
type Publisher interface {
	Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error
}

// Middleware returns the middleware that retries and parks messages. If the handler fails, the message is published to a wait queue
// or to the parking queue, and the original is acknowledged after RabbitMQ has confirmed the copy. A move that fails is
// described at [MoveError]. The result of the handler decides:
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
// copy is made from the original. Body and Headers are shared with the original: changes inside them are
// part of the copy.
//
// Middleware that wraps a single attempt, such as consumer.Timeout and consumer.Decompress, belongs after this one.
func (p *Plan) Middleware(to Publisher) consumer.Middleware {
	m := &mover{Plan: p, to: to, log: logs.For(p.cfg.Logger, to)}
	return func(next consumer.Handler) consumer.Handler {
		return func(ctx context.Context, d *consumer.Delivery) error {
			if d.Queue != p.cfg.Queue {
				err := fault("Queue", fmt.Sprintf("the plan is for %q, the delivery came from %q", p.cfg.Queue, d.Queue), "make a plan for each queue")
				m.warnings.Warn(ctx, m.log, "queue", "retry: message requeued, its handler was not called", slog.Any("error", err))
				return consumer.Requeue(lastHold, err)
			}
			return (&message{mover: m, next: next, d: d, record: history.Read(&d.Delivery, d.Queue)}).run(ctx)
		}
	}
}

type attemptKey struct{}

// Attempt returns the number of the current attempt, starting with 1. ctx is the handler's. Outside of the middleware Attempt
// returns 0.
func Attempt(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}

// RoutingKey returns the routing key with which a message was first published, also after it came from a wait
// queue. Use it as consumer.Config.Key to keep the order of messages with the same routing key.
func RoutingKey(d *consumer.Delivery) string {
	r := history.Read(&d.Delivery, d.Queue)
	return r.Key
}

// A message is a delivery on its way through the middleware.
type message struct {
	*mover
	next   consumer.Handler
	d      *consumer.Delivery
	record history.Record
	id     string        // see messageID
	waited time.Duration // in the worker, between attempts

	// The attempt. Its goroutine writes these fields, and run reads them afterwards.
	ended    sync.WaitGroup
	returned bool // false after runtime.Goexit
	view     consumer.Delivery
	result   error
	failure  *failure
}

func (m *message) run(ctx context.Context) error {
	if to, ok := m.pending(ctx); ok {
		return m.move(ctx, to)
	}
	for {
		m.attempt(ctx)
		f := m.failure
		if f == nil {
			return m.result
		}
		now := time.Now()
		m.record.Add(f.text, f.kind, now)
		switch d := m.decide(f, m.record.Attempts, now, now.Sub(m.record.First), m.waited); {
		case d.discard:
			m.logAt(ctx, slog.LevelInfo, "retry: message failed and was discarded")
			return nil
		case d.reason != "":
			return m.move(ctx, m.parking(d.reason))
		case !d.inProcess:
			return m.move(ctx, m.waiting(d, now))
		default:
			m.logAt(ctx, slog.LevelInfo, "retry: message failed, its worker waits", slog.Duration("delay", d.delay))
			m.waited += d.delay
			if !pause(ctx, d.delay) {
				return consumer.Requeue(firstHold) // the attempts since the delivery are repeated
			}
			if m.d.Stale() {
				return consumer.ErrStaleDelivery // the attempts continue with the redelivery
			}
		}
	}
}

// pending returns the move that a message needs before an attempt: it returned to its source queue before its delay had elapsed,
// because its parking queue was unavailable, or with as many attempts as any policy allows. Values in its headers that the plan cannot
// have written are ignored; they come from another program or another policy.
func (m *message) pending(ctx context.Context) (to move, ok bool) {
	now := time.Now()
	rest := m.record.Rest(now)
	if rest > m.longest {
		m.logAt(ctx, slog.LevelWarn, "retry: due time of a message ignored, it exceeds the longest wait of the plan",
			slog.Duration("delay", rest), slog.Duration("longest", m.longest))
		rest = 0
	}
	switch m.record.Park {
	case "":
	case history.ReasonAttempts, history.ReasonAge, history.ReasonAfter, history.ReasonPermanent, history.ReasonRejected, history.ReasonRule:
		to = m.parking(m.record.Park)
		to.record.Park, to.repeated = "", true
		return to, true
	default:
		m.logAt(ctx, slog.LevelWarn, "retry: unknown reason for parking a message ignored", slog.String("reason", m.record.Park))
		m.record.Park = ""
	}
	switch {
	case rest > 0 && len(m.tiers) > 0:
		to = m.waiting(m.queued(rest, now), now)
		to.until, to.repeated = now.Add(rest), true
		return to, true
	case m.record.Attempts >= m.attempts:
		return m.parking(history.ReasonAttempts), true
	}
	return move{}, false
}

// attempt calls the handler and sets result and failure.
func (m *message) attempt(ctx context.Context) {
	ctx = context.WithValue(ctx, attemptKey{}, m.record.Attempts+1)
	m.show()
	if m.separately(ctx, m.next) || m.separately(ctx, func(context.Context, *consumer.Delivery) error { return errGoexit }) {
		return
	}
	m.failure = &failure{err: errGoexit, text: errGoexit.Error(), action: m.cfg.Policy} // a rule ended the goroutine
}

// separately calls the handler and reads its error on another goroutine, because runtime.Goexit would end the worker. It returns false
// if the goroutine was ended.
func (m *message) separately(ctx context.Context, h consumer.Handler) bool {
	m.ended.Add(1)
	go func() {
		defer m.ended.Done()
		m.result = call(ctx, h, &m.view)
		m.failure = m.read(ctx, m.result)
		m.returned = true
	}()
	m.ended.Wait()
	return m.returned
}

// show makes the handler's view of the delivery: as it was first published, with the record in its headers.
func (m *message) show() {
	m.view = *m.d
	m.view.Exchange, m.view.RoutingKey, m.view.Expiration = m.record.Exchange, m.record.Key, m.record.Expiration
	if _, ok := m.d.Headers[history.HeaderCC]; ok {
		m.view.Headers = maps.Clone(m.d.Headers)
		delete(m.view.Headers, history.HeaderCC)
		if m.record.CC != nil {
			m.view.Headers["CC"] = m.record.CC
		}
	}
}

// pause returns true after d. It returns false as soon as the Run shuts down if its drain time ends earlier. A
// deadline of ctx, from a consumer.Timeout around the middleware, is ignored: it would repeat the attempts indefinitely.
func pause(ctx context.Context, d time.Duration) bool {
	end := time.Now().Add(d)
	t := time.NewTimer(d)
	defer t.Stop()
	done, drains := ctx.Done(), consumer.Draining(ctx)
	for {
		select {
		case <-t.C:
			return true
		case <-drains:
			if left, _ := consumer.DrainLeft(ctx); time.Until(end) >= left {
				return false
			}
			drains = nil
		case <-done:
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return false
			}
			done = nil
		}
	}
}

// messageID returns the id of the message, or a new one for its copies if it has none.
func (m *message) messageID() string {
	if m.id == "" {
		m.id = cmp.Or(m.d.MessageId, rand.Text())
	}
	return m.id
}

func (m *message) logAt(ctx context.Context, level slog.Level, text string, attrs ...slog.Attr) {
	m.log.LogAttrs(ctx, level, text, append(m.attrs(), attrs...)...)
}

// attrs returns the attributes of log lines about the message.
func (m *message) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("queue", m.d.Queue), slog.String("message_id", m.messageID()), slog.Int("attempt", m.record.Attempts)}
	if m.record.Error != "" {
		attrs = append(attrs, slog.String("error", m.record.Error))
	}
	if m.failure != nil && m.failure.stack != nil {
		attrs = append(attrs, slog.String("stack", string(m.failure.stack)))
	}
	return attrs
}

package soak

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
)

// failurePlans are the planned results of messages on the retry route. The number in the message id selects the plan,
// so every handler of a copy returns the same result.
var failurePlans = []failurePlan{
	{},
	{},
	{},
	{},
	{failures: 1},
	{failures: 1, after: 700 * time.Millisecond},
	{failures: 2},
	{failures: 2},
	{failures: 3},
	{failures: 4, reason: history.ReasonAttempts, lastErr: errOnPurpose},
	{failures: 1, reason: history.ReasonPermanent, lastErr: amqperr.Permanent(errOnPurpose)},
	{failures: 2, reason: history.ReasonRejected, lastErr: consumer.Reject(errOnPurpose)},
	{failures: 3, reason: history.ReasonRule, lastErr: errHopeless},
}

type failurePlan struct {
	failures int
	reason   string        // reason for parking after the last failure; empty if the next attempt succeeds
	lastErr  error         // error of the last failure; nil for an ordinary error
	after    time.Duration // delay that the first failure requests; zero for the delay of the policy
}

func failurePlanOf(id string) failurePlan {
	n, _ := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	return failurePlans[n%len(failurePlans)]
}

// A deliveryResult collects the result of one delivery on the retry route.
type deliveryResult struct {
	handlerResult string // result of the handler; Moved if the handler was not called because the message has already had this attempt
	failedMoves   int    // number of failed moves
}

type deliveryResultKey struct{}

func deliveryResultOf(ctx context.Context) *deliveryResult {
	return ctx.Value(deliveryResultKey{}).(*deliveryResult)
}

// A mover publishes failed messages to their wait and parking queues and counts the failures.
type mover struct{ *producer.Producer }

func (m mover) Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	err := m.Producer.Republish(ctx, exchange, key, msg)
	if err != nil {
		deliveryResultOf(ctx).failedMoves++
	}
	return err
}

// recordMoves is the outermost middleware of the retry route. It records the final result of each delivery.
func (x *worker) recordMoves(next consumer.Handler) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		h := x.newHandled(d)
		c := &deliveryResult{handlerResult: Moved}
		err := next(context.WithValue(ctx, deliveryResultKey{}, c), d)
		var requeue *consumer.RequeueError
		var move *retry.MoveError
		switch {
		case err == nil && c.handlerResult == OK:
			h.Result = OK
		case err == nil:
			h.Result = Moved
		case errors.As(err, &requeue):
			h.Result, h.Stayed = Requeue, errors.As(err, &move)
		default:
			h.Result = Fail
		}
		h.Unmoved = c.failedMoves
		x.w.h.Put(Record{Handled: h})
		return err
	}
}

// try is the handler of the retry route. It fails according to the plan of the message until handlers must no longer
// fail.
func (x *worker) try(ctx context.Context, d *consumer.Delivery) (err error) {
	t := &Try{ID: idOf(d.Body), Began: x.w.h.Now(), Attempt: retry.Attempt(ctx), Redelivered: d.Redelivered, Result: OK}
	defer func() {
		deliveryResultOf(ctx).handlerResult = t.Result
		x.w.h.Put(Record{Try: t})
	}()
	took := time.Duration(0)
	if x.draw(100) < 5 {
		took = x.upTo(300 * time.Millisecond)
	}
	select {
	case <-time.After(took):
	case <-ctx.Done(): // DrainTimeout has elapsed
		t.Result = Interrupted
		return ctx.Err()
	}
	f := failurePlanOf(t.ID)
	switch {
	case x.w.failing.Err() != nil:
	case x.draw(100) < 1:
		t.Result = Requeue
		return consumer.Requeue(x.upTo(100 * time.Millisecond))
	case t.Attempt <= f.failures:
		t.Result = Fail
		switch {
		case t.Attempt == f.failures && f.lastErr != nil:
			return f.lastErr
		case t.Attempt == 1 && f.after > 0:
			return retry.After(f.after, errOnPurpose)
		case d.DeliveryTag%2 == 0:
			panic(errOnPurpose)
		}
		return errOnPurpose
	}
	return nil
}

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

// fates are what becomes of the messages of the retry route. The number of a message decides, and not chance, so that
// whoever has a copy of it does the same.
var fates = []fate{
	{},
	{},
	{},
	{},
	{fails: 1},
	{fails: 1, after: 700 * time.Millisecond},
	{fails: 2},
	{fails: 2},
	{fails: 3},
	{fails: 4, why: history.ReasonAttempts, last: errOnPurpose},
	{fails: 1, why: history.ReasonPermanent, last: amqperr.Permanent(errOnPurpose)},
	{fails: 2, why: history.ReasonRejected, last: consumer.Reject(errOnPurpose)},
	{fails: 3, why: history.ReasonRule, last: errHopeless},
}

type fate struct {
	fails int
	why   string        // it is parked after these; empty: the next attempt succeeds
	last  error         // what it fails of then
	after time.Duration // that its first failure asks for; zero: the policy's
}

func fateOf(id string) fate {
	n, _ := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	return fates[n%len(fates)]
}

// A course is what happens to one delivery.
type course struct {
	last    string // result of its handler; Moved: it was not called, since the message has had its attempt
	unmoved int    // times that it could not be taken to another queue
}

type courseKey struct{}

func courseOf(ctx context.Context) *course { return ctx.Value(courseKey{}).(*course) }

// A mover takes failed messages to their wait and parking queues.
type mover struct{ *producer.Producer }

func (m mover) Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	err := m.Producer.Republish(ctx, exchange, key, msg)
	if err != nil {
		courseOf(ctx).unmoved++
	}
	return err
}

// moves is the outermost middleware of the retry route. It writes down what becomes of each delivery in the end.
func (x *worker) moves(next consumer.Handler) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		h := x.received(d)
		c := &course{last: Moved}
		err := next(context.WithValue(ctx, courseKey{}, c), d)
		var requeue *consumer.RequeueError
		var hop *retry.MoveError
		switch {
		case err == nil && c.last == OK:
			h.Result = OK
		case err == nil:
			h.Result = Moved
		case errors.As(err, &requeue):
			h.Result, h.Stayed = Requeue, errors.As(err, &hop)
		default:
			h.Result = Fail
		}
		h.Unmoved = c.unmoved
		x.w.h.Put(Record{Handled: h})
		return err
	}
}

// try is the handler of the retry route: it fails as the fate of its message says, until all is to succeed.
func (x *worker) try(ctx context.Context, d *consumer.Delivery) (err error) {
	t := &Try{ID: idOf(d.Body), Began: x.w.h.Now(), Attempt: retry.Attempt(ctx), Redelivered: d.Redelivered, Result: OK}
	defer func() {
		courseOf(ctx).last = t.Result
		x.w.h.Put(Record{Try: t})
	}()
	took := time.Duration(0)
	if x.draw(100) < 5 {
		took = x.upTo(300 * time.Millisecond)
	}
	select {
	case <-time.After(took):
	case <-ctx.Done(): // the drain time is over
		t.Result = Interrupted
		return ctx.Err()
	}
	f := fateOf(t.ID)
	switch {
	case x.w.calm.Err() != nil:
	case x.draw(100) < 1:
		t.Result = Requeue
		return consumer.Requeue(x.upTo(100 * time.Millisecond))
	case t.Attempt <= f.fails:
		t.Result = Fail
		switch {
		case t.Attempt == f.fails && f.last != nil:
			return f.last
		case t.Attempt == 1 && f.after > 0:
			return retry.After(f.after, errOnPurpose)
		case d.DeliveryTag%2 == 0:
			panic(errOnPurpose)
		}
		return errOnPurpose
	}
	return nil
}

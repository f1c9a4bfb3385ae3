package soak

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/retry"
)

// fates are what becomes of the messages of the retry route. The number of a message decides, and not chance, so that
// whoever has a copy of it does the same.
var fates = []struct {
	fails int
	why   string // it is parked after these
	last  error  // what it fails of then
}{
	{},
	{},
	{},
	{},
	{fails: 1},
	{fails: 1},
	{fails: 2},
	{3, retry.WhyAttempts, errOnPurpose},
	{1, retry.WhyPermanent, retry.Permanent(errOnPurpose)},
	{1, retry.WhyRejected, consumer.Reject(errOnPurpose)},
	{2, retry.WhyRule, errHopeless},
}

// fateOf returns how often a message fails, why it is parked then, and of what it fails last.
func fateOf(id string) (fails int, why string, last error) {
	n, _ := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	x := fates[n%len(fates)]
	return x.fails, x.why, x.last
}

type lastTry struct{}

// moves is the outermost middleware of the retry route. It writes down what becomes of each delivery in the end.
func (x *worker) moves(next consumer.Handler) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		h := x.received(d)
		last := Moved // if the handler is not called, since the message has had its attempt
		err := next(context.WithValue(ctx, lastTry{}, &last), d)
		var requeue *consumer.RequeueError
		var hop *retry.HopError
		switch {
		case err == nil && last == OK:
			h.Result = OK
		case err == nil:
			h.Result = Moved
		case errors.As(err, &requeue):
			h.Result, h.Stayed = Requeue, errors.As(err, &hop)
		default:
			h.Result = Fail
		}
		x.w.h.Put(Record{Handled: h})
		return err
	}
}

// try is the handler of the retry route: it fails as the fate of its message says, until all is to succeed.
func (x *worker) try(ctx context.Context, d *consumer.Delivery) (err error) {
	t := &Try{ID: idOf(d.Body), Attempt: retry.Attempt(ctx), Redelivered: d.Redelivered, Result: OK}
	defer func() {
		*ctx.Value(lastTry{}).(*string) = t.Result
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
	fails, _, last := fateOf(t.ID)
	switch {
	case x.w.calm.Err() != nil:
	case x.draw(100) < 1:
		t.Result = Requeue
		return consumer.Requeue(x.upTo(100 * time.Millisecond))
	case t.Attempt <= fails:
		t.Result = Fail
		if t.Attempt == fails && last != nil {
			return last
		}
		if d.DeliveryTag%2 == 0 {
			panic(errOnPurpose)
		}
		return errOnPurpose
	}
	return nil
}

package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/producer"
)

// A batch is the messages that a worker has read and their outcomes.
type batch struct {
	w        *worker
	ctx      context.Context // ends when the leases expire or the drain timeout elapses
	stopping context.Context // ends when Run is to return
	began    time.Time       // when the messages were read
	shards   []int           // where they were read
	read     int             // number of messages

	keys   []*keyQueue // in the order of their first messages
	byKey  map[string]*keyQueue
	flight []sent // in the order of publishing

	confirmed []*row
	failed    []failure
	moved     []*row // messages behind a held one
	crowded   bool   // more held keys were due than were read
	unknown   error  // the last outcome that is unknown or does not count
	fatal     error
}

// A keyQueue is the messages of a batch with one ordering key.
type keyQueue struct {
	key     string
	rows    []*row // not yet published, in order
	held    bool   // they were read as held messages
	failed  bool   // one of them failed
	partial bool   // there may be more held messages than were read
}

// A sent message waits for its outcome.
type sent struct {
	row     *row
	queue   *keyQueue
	receipt *producer.Receipt
}

// A failure is an attempt that counts.
type failure struct {
	row *row
	err error
}

const (
	// sharedTime is the time after which a few keys with many messages must not delay the others: a batch continues with
	// further messages of its keys only while at least one in fewKeys of its messages is in flight. Fewer would leave the
	// broker idle; more would read the same messages repeatedly.
	sharedTime = 50 * time.Millisecond
	fewKeys    = 16

	// crowd is the number of messages above which a key that did not finish in sharedTime is held: it gets a separate
	// queue, so that the messages behind it in the shard become visible.
	crowd = 32
)

func (b *batch) add(r *row) {
	q := b.byKey[r.key]
	if q == nil {
		q = &keyQueue{key: r.key}
		b.addQueue(q)
	}
	q.rows = append(q.rows, r)
}

func (b *batch) addQueue(q *keyQueue) {
	if b.byKey == nil {
		b.byKey = map[string]*keyQueue{}
	}
	b.byKey[q.key] = q
	b.keys = append(b.keys, q)
}

// publish publishes the messages: the first of each key at once, each further one after the confirm of the one before
// it. It returns when all outcomes are known; ctx bounds them.
func (b *batch) publish() {
	began := time.Now()
	for _, q := range b.keys {
		b.send(q)
	}
	for len(b.flight) > 0 {
		s := b.flight[0]
		b.flight = b.flight[1:]
		<-s.receipt.Done()
		continues := time.Since(began) < sharedTime || len(b.flight) >= b.read/fewKeys
		if b.settled(s.queue, s.row, s.receipt.Wait(context.Background())) && continues {
			b.send(s.queue)
		}
	}
}

// send publishes the next message of a key.
func (b *batch) send(q *keyQueue) {
	for len(q.rows) > 0 && b.fatal == nil && b.stopping.Err() == nil && b.ctx.Err() == nil && b.w.r.leases.valid() {
		r := q.rows[0]
		q.rows = q.rows[1:]
		m, err := r.publishing()
		var receipt *producer.Receipt
		if err == nil {
			receipt, err = b.w.r.publisher.PublishAsync(b.ctx, m.Exchange, m.Key, m.Publishing)
		}
		if err == nil {
			b.flight = append(b.flight, sent{r, q, receipt})
			return
		}
		if !b.settled(q, r, err) {
			return
		}
	}
}

// settled records an outcome. It reports whether the key continues.
func (b *batch) settled(q *keyQueue, r *row, err error) bool {
	switch {
	case err == nil:
		b.confirmed = append(b.confirmed, r)
		b.w.r.counts.delivered(r.age + time.Since(b.began))
		return true
	case errors.Is(err, producer.ErrClosed):
		b.fatal = err
	case isFailure(err):
		b.failed = append(b.failed, failure{r, err})
		q.failed = true
		return false
	default:
		b.unknown = err
		if b.stopping.Err() != nil {
			b.w.unfinished++
		}
	}
	q.rows = append([]*row{r}, q.rows...)
	return false
}

// isFailure reports whether an attempt counts: the message itself, or its destination, is the cause.
func isFailure(err error) bool {
	var returned *producer.ReturnedError
	var refused *amqp.Error
	switch {
	case errors.Is(err, amqperr.ErrNoConnection): // a refused login has a code too
		return false
	case errors.As(err, &returned), errors.Is(err, producer.ErrNacked):
		return true
	case errors.Is(err, producer.ErrUnconfirmed):
		return false
	case amqperr.IsPermanent(err):
		return true
	}
	// 404 and 403 name the exchange, 406 a property.
	return errors.Is(err, producer.ErrNotPublished) && errors.As(err, &refused) &&
		slices.Contains([]int{amqp.NotFound, amqp.AccessRefused, amqp.PreconditionFailed}, refused.Code)
}

// settle deletes the confirmed messages, and holds the failed ones and those behind them. It repeats the deletion until it
// succeeds or ctx ends, because the messages would be published again.
func (b *batch) settle() error {
	r := b.w.r
	var retry pause
	for len(b.confirmed) > 0 {
		err := b.delete()
		if err == nil {
			break
		}
		err = fmt.Errorf("outbox: delete published messages: %w", err)
		r.failed(b.stopping, "outbox: database", err)
		if !retry.wait(b.ctx) {
			if b.stopping.Err() != nil {
				b.w.unfinished += len(b.confirmed)
			}
			return err
		}
	}
	if b.unknown != nil {
		r.warnings.Warn(b.stopping, r.cfg.Logger, "unknown", "outbox: messages are published again", slog.Any("error", b.unknown))
	}
	return b.hold()
}

// delete works without the leases too: the messages are confirmed.
func (b *batch) delete() error {
	r := b.w.r
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), r.cfg.Lease)
	defer cancel()
	query, args := r.outbox.dialect.remove(b.confirmed)
	_, err := r.exec(ctx, r.db, query, args...)
	return err
}

func (c *counts) delivered(delay time.Duration) {
	c.relayed.Add(1)
	c.delays.Add(int64(delay))
	for {
		longest := c.longest.Load()
		if int64(delay) <= longest || c.longest.CompareAndSwap(longest, int64(delay)) {
			return
		}
	}
}

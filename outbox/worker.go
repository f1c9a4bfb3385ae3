package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/amqpkit/amqpkit/producer"
)

// A worker publishes the messages of a part of the relay's shards, batch by batch: it reads messages, publishes them, waits
// for the outcomes, deletes the confirmed ones and holds the failed ones. Between two batches nothing is in flight, so
// every query sees exactly the messages that are still to be published. No position is remembered except floors.
type worker struct {
	r          *Relay
	index      int
	floors     floors
	nextDue    time.Time // when held keys are queried next
	lastEmpty  time.Time // when a query last found nothing
	unfinished int       // messages without an outcome at the end of the drain timeout
}

const (
	duePoll  = time.Second          // time between queries for held keys that are due
	shortest = 5 * time.Millisecond // time between two queries if the first one found nothing
)

// run works until ctx ends. It returns an error only if the relay cannot continue.
func (w *worker) run(ctx context.Context) error {
	var retry pause
	for ctx.Err() == nil {
		woken := w.r.outbox.wake.wait()
		n, progress, err := w.cycle(ctx)
		switch {
		case errors.Is(err, producer.ErrClosed):
			return err
		case err != nil:
			w.r.failed(ctx, "outbox: relay", err)
			retry.wait(ctx)
			continue
		case n > 0 && !progress:
			retry.wait(ctx)
			continue
		}
		retry.reset()
		if n == 0 {
			w.idle(ctx, woken)
		}
	}
	return nil
}

// idle waits until there may be messages.
func (w *worker) idle(ctx context.Context, woken <-chan struct{}) {
	if gap := shortest - time.Since(w.lastEmpty); gap > 0 {
		sleep(ctx, gap)
	}
	w.lastEmpty = time.Now()
	poll := w.r.cfg.PollInterval
	poll += time.Duration((rand.Float64() - 0.5) * 0.4 * float64(poll))
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-woken:
	case <-timer.C:
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// cycle processes one batch. It returns the number of messages that it has read, and whether one of them was deleted
// or held.
func (w *worker) cycle(ctx context.Context) (n int, progress bool, err error) {
	leased, shards := w.r.leases.use(w.index)
	defer w.r.leases.release(w.index)
	if len(shards) == 0 {
		if w.r.leases.valid() { // other relays have all shards
			w.r.report(nil)
		}
		return 0, false, nil
	}
	b := &batch{w: w, ctx: leased, stopping: ctx, began: time.Now(), shards: shards}
	if err := w.read(leased, shards, b); err != nil {
		return 0, false, err
	}
	w.r.report(nil)
	b.publish()
	if err := b.settle(); err != nil {
		return b.read, false, err
	}
	return b.read, len(b.confirmed)+len(b.failed)+len(b.moved) > 0, b.fatal
}

// read reads the messages of a batch.
func (w *worker) read(ctx context.Context, shards []int, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, w.r.cfg.Lease)
	defer cancel()
	if err := w.floors.update(ctx, w.r, shards); err != nil {
		w.floors = floors{}
		return fmt.Errorf("outbox: read open transactions: %w", err)
	}
	perShard := max(w.r.cfg.BatchSize/len(shards), 1)
	query, args := w.r.outbox.dialect.read(w.floors.ranges(shards), perShard, w.r.cfg.BatchBytes)
	rows, err := w.query(ctx, math.MaxInt, query, args...)
	if err != nil {
		w.floors = floors{} // another server may have taken over, with other ids
		return fmt.Errorf("outbox: read messages: %w", err)
	}
	w.floors.seen(rows)
	for _, r := range rows {
		if r.held {
			b.moved = append(b.moved, r)
		} else {
			b.add(r)
		}
	}
	b.read = len(rows)
	if time.Now().Before(w.nextDue) {
		return nil
	}
	return w.readHeld(ctx, shards, b)
}

// query returns the messages of a query for rowColumns, up to the one with which their bodies reach size.
func (w *worker) query(ctx context.Context, size int, query string, args ...any) (list []*row, err error) {
	rows, err := w.r.db.QueryContext(ctx, w.r.outbox.bind(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for size > 0 && rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
		size -= len(r.body)
	}
	return list, rows.Err()
}

func scan(rows *sql.Rows) (*row, error) {
	r := new(row)
	var age, held int64
	err := rows.Scan(&r.id, &r.shard, &r.key, &r.message, &r.body, &r.attempts, &r.errors, &age, &held)
	r.age, r.held = time.Duration(age)*time.Microsecond, held != 0
	return r, err
}

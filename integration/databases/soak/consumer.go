package soak

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
)

// consume applies the changes of all queues until ctx ends.
func (w *worker) consume(ctx context.Context) (err error) {
	db, err := w.Database.open(connectionsOf)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, disconnect, err := w.connect()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disconnect()) }()
	once, err := inbox.Handler(db, w.Database.inboxConfig(), w.apply)
	if err != nil {
		return err
	}
	all := make([]*consumer.Consumer, len(w.Queues))
	for i, queue := range w.Queues {
		all[i], err = consumer.New(conn, consumer.Config{
			Queue: queue, Workers: 4, Prefetch: 64, SingleActiveConsumer: true, DrainTimeout: stopTime / 3, Logger: w.logger,
			Key: func(d *consumer.Delivery) string { return fmt.Sprint(d.Headers[itemHeader]) },
		}, w.untilApplied(once))
		if err != nil {
			return err
		}
	}
	var running sync.WaitGroup
	errs := make([]error, len(all))
	for i, c := range all {
		running.Go(func() { errs[i] = c.Run(ctx) })
	}
	for _, c := range all {
		if c.Ready(ctx) != nil {
			break
		}
	}
	w.report(ready)
	running.Wait()
	return errors.Join(errs...)
}

const (
	slowHandlerOf   = 20 // one in 20 calls of the handler is slow
	slowHandlerTime = 40 * time.Millisecond
)

type calledKey struct{}

// untilApplied repeats the handler until it succeeds or ctx ends, so that a failure does not change the order of a row.
func (w *worker) untilApplied(h consumer.Handler) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		for {
			called := false
			err := h(context.WithValue(ctx, calledKey{}, &called), d)
			w.trace("applied", d.Body, "new", called, "redelivered", d.Redelivered, "error", err)
			switch {
			case err == nil && called:
				w.report(applied)
				return nil
			case err == nil:
				w.report(removed)
				return nil
			case ctx.Err() != nil:
				return err
			}
			w.report(failed)
			w.logger.Info("soak: change not applied, trying again", "error", err)
			pause(ctx, failurePause)
		}
	}
}

// apply applies a change to database B. It trusts the message, and leaves contradictions to the judge.
func (w *worker) apply(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) (err error) {
	if called, ok := ctx.Value(calledKey{}).(*bool); ok {
		*called = true
	}
	var c change
	if err := json.Unmarshal(d.Body, &c); err != nil {
		return consumer.Reject(err)
	}
	exec := func(query string, args ...any) {
		if err == nil {
			_, err = tx.ExecContext(ctx, w.Database.bind(query), args...)
		}
	}
	if rand.N(slowHandlerOf) == 0 {
		pause(ctx, rand.N(slowHandlerTime))
	}
	exec("INSERT INTO applied (item, version, name, kind) VALUES (?, ?, ?, ?)", c.Item, c.Version, c.Name, c.Kind)
	exec("DELETE FROM items WHERE id = ?", c.Item)
	if c.Kind != deleted {
		exec("INSERT INTO items (id, version, name) VALUES (?, ?, ?)", c.Item, c.Version, c.Name)
	}
	return err
}

// Command relay publishes t.Messages messages from an outbox with a Relay. With -how=warm the first 10,000 are not measured: the
// first query of a Relay passes deleted messages that were not vacuumed, and leaves marks, so that later queries skip them.
// With -how=snapshot another connection also keeps a snapshot during the whole run.
package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/bench/side"
	"github.com/amqpkit/amqpkit/integration/databases/bench"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

func main() { side.Main(run) }

func run(ctx context.Context, t side.Task) (side.Result, error) {
	db, err := bench.Open(ctx, t)
	if err != nil {
		return side.Result{}, err
	}
	defer db.Close()
	if t.How == "snapshot" {
		end, err := snapshot(ctx, t)
		if err != nil {
			return side.Result{}, err
		}
		defer func() { _ = end() }()
	}
	conn, err := amqpkit.Dial(ctx, t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close(ctx)
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return side.Result{}, err
	}
	defer p.Close(ctx)
	o, err1 := db.Outbox()
	r, err2 := outbox.NewRelay(o, db.DB, p, outbox.RelayConfig{})
	if err := errors.Join(err1, err2); err != nil {
		return side.Result{}, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	clock := side.StartWith(t)
	go func() { ended <- r.Run(running) }()
	await := func(n int) error {
		for r.Stats().Relayed < uint64(n) {
			select {
			case err := <-ended:
				return err
			case <-time.After(time.Millisecond):
			}
		}
		return nil
	}
	before, queries := 0, time.Duration(0)
	if t.How != "" {
		if err := await(min(warm, t.Messages/2)); err != nil {
			return side.Result{}, err
		}
		clock, before, queries = side.StartWith(t), int(r.Stats().Relayed), db.QueryTime()
	}
	if err := await(t.Messages); err != nil {
		return side.Result{}, err
	}
	stop()
	err = <-ended // it has deleted the messages
	result := clock.Stop(int(r.Stats().Relayed) - before)
	result.QueryTime = db.QueryTime() - queries
	return result, err
}

const warm = 10_000

// snapshot starts a transaction that sees the current state of the database until end is called.
func snapshot(ctx context.Context, t side.Task) (end func() error, err error) {
	db, err := sql.Open("pgx", t.Database)
	if err != nil {
		return nil, err
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	var n int
	err = tx.QueryRowContext(ctx, "SELECT count(*) FROM amqpkit_outbox_meta").Scan(&n)
	end = func() error { return errors.Join(tx.Rollback(), db.Close()) }
	if err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}

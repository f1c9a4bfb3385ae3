// Command inbox consumes messages and stores a row for each of them through package inbox. With -how=single each message has
// a transaction, and 8 workers handle them. With -how=batch a transaction has up to 100 messages, and its rows are stored with one
// statement.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/integration/bench/side"
	"github.com/amqpkit/amqpkit/integration/databases/bench"
)

func main() { side.Main(run) }

const (
	workers = 8   // with -how=single
	size    = 100 // with -how=batch
)

func run(ctx context.Context, t side.Task) (side.Result, error) {
	db, err := bench.Open(ctx, t)
	if err != nil {
		return side.Result{}, err
	}
	defer db.Close()
	cfg := inbox.Config{Dialect: db.Dialect}
	if err := inbox.Create(ctx, db.DB, cfg); err != nil {
		return side.Result{}, err
	}
	if _, err := db.ExecContext(ctx, "CREATE TABLE inbox_effects (message_id TEXT NOT NULL, body BYTEA NOT NULL)"); err != nil {
		return side.Result{}, err
	}
	conn, err := amqpkit.Dial(ctx, t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close(ctx)
	if _, err := conn.ConsumeConnection(ctx); err != nil {
		return side.Result{}, err
	}

	var n atomic.Int64
	done := make(chan struct{})
	store := func(ctx context.Context, tx *sql.Tx, ds []*consumer.Delivery) error {
		values, args := make([]string, len(ds)), make([]any, 0, 2*len(ds))
		for i, d := range ds {
			values[i] = fmt.Sprintf("($%d, $%d)", 2*i+1, 2*i+2)
			args = append(args, d.MessageId, d.Body)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO inbox_effects (message_id, body) VALUES "+strings.Join(values, ", "), args...)
		if err == nil && n.Add(int64(len(ds))) == int64(t.Messages) {
			defer close(done)
		}
		return err
	}
	ccfg := consumer.Config{Queue: t.QueueNames()[0], Workers: workers}
	handler, err := inbox.Handler(db.DB, cfg, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
		return store(ctx, tx, []*consumer.Delivery{d})
	})
	if t.How == "batch" {
		ccfg.Workers, ccfg.Prefetch = 2*size, 2*size
		handler, err = inbox.Batch(db.DB, cfg, size, 20*time.Millisecond, store)
	}
	if err != nil {
		return side.Result{}, err
	}
	c, err := consumer.New(conn, ccfg, handler)
	if err != nil {
		return side.Result{}, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	clock := side.StartWith(t)
	go func() { ended <- c.Run(running) }()
	select {
	case <-done:
	case err := <-ended:
		return side.Result{}, fmt.Errorf("stopped after %d of %d deliveries: %w", n.Load(), t.Messages, errors.Join(err, ctx.Err()))
	}
	stop()
	err = <-ended // all messages are committed and acknowledged
	result := clock.Stop(t.Messages)
	result.QueryTime = db.QueryTime()
	return result, err
}

// Command prepare creates the tables of a contender and fills them with t.Rows messages for random ordering keys. The flag
// -how selects the table of the hand-written loops (loop), an outbox (outbox, the default), or an outbox from whose beginning
// 500,000 messages were deleted without a vacuum (deleted).
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/bench/side"
	"github.com/amqpkit/amqpkit/integration/databases/bench"
	"github.com/amqpkit/amqpkit/outbox"
)

func main() { side.Main(run) }

// deleted is the number of messages that -how=deleted deletes.
const deleted = 500_000

func run(ctx context.Context, t side.Task) (side.Result, error) {
	if !bench.IsPostgres(t) {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(t.Database + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return side.Result{}, err
			}
		}
	}
	db, err := bench.Open(ctx, t)
	if err != nil {
		return side.Result{}, err
	}
	defer db.Close()
	for _, table := range []string{"loop_outbox", "amqpkit_outbox", "amqpkit_outbox_keys", "amqpkit_outbox_leases", "amqpkit_outbox_meta", "inbox_effects", "amqpkit_inbox", "amqpkit_inbox_meta"} {
		if _, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS "+table); err != nil {
			return side.Result{}, err
		}
	}
	clock := side.Start()
	if t.How == "loop" {
		err = loop(ctx, db, t)
	} else {
		err = fill(ctx, db, t)
	}
	if err == nil && db.Dialect == "postgresql" {
		err = settle(ctx, db, t)
	}
	return clock.Stop(max(t.Rows, 1)), err
}

// settle makes the state of PostgreSQL independent of the preparation.
func settle(ctx context.Context, db *bench.Database, t side.Task) error {
	statements := []string{"VACUUM ANALYZE", "CHECKPOINT"}
	if t.How == "deleted" {
		statements = []string{
			"ANALYZE", "ALTER TABLE amqpkit_outbox SET (autovacuum_enabled = false)",
			fmt.Sprintf("DELETE FROM amqpkit_outbox WHERE id <= (SELECT max(id) - %d FROM amqpkit_outbox)", t.Rows), "CHECKPOINT",
		}
	}
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

const loopTable = `CREATE TABLE loop_outbox (
  id %s,
  routing_key TEXT NOT NULL,
  message_id TEXT NOT NULL,
  ordering_key TEXT NOT NULL,
  body %s NOT NULL,
  added_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
)`

func loop(ctx context.Context, db *bench.Database, t side.Task) error {
	create := fmt.Sprintf(loopTable, "BIGSERIAL PRIMARY KEY", "BYTEA")
	if db.Dialect == "sqlite" {
		create = fmt.Sprintf(loopTable, "INTEGER PRIMARY KEY AUTOINCREMENT", "BLOB")
	}
	if _, err := db.ExecContext(ctx, create); err != nil {
		return err
	}
	return inParts(ctx, db, t.Rows, func(tx *sql.Tx, n int) error {
		var values []string
		var args []any
		for i := range n {
			values = append(values, fmt.Sprintf("($%d, $%d, $%d, $%d)", 4*i+1, 4*i+2, 4*i+3, 4*i+4))
			args = append(args, t.QueueNames()[0], side.MessageID(i), key(t), make([]byte, t.Size))
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO loop_outbox (routing_key, message_id, ordering_key, body) VALUES "+strings.Join(values, ","), args...)
		return err
	})
}

func key(t side.Task) string { return fmt.Sprintf("order %d", rand.N(max(t.Keys, 1))) }

func fill(ctx context.Context, db *bench.Database, t side.Task) error {
	o, err := db.Outbox()
	if err != nil {
		return err
	}
	if err := o.Create(ctx, db.DB); err != nil {
		return err
	}
	rows := t.Rows
	if t.How == "deleted" {
		rows += deleted
	}
	copies := 1 + rows/100_000 // all but the first are made within the database
	rows /= copies
	err = inParts(ctx, db, rows, func(tx *sql.Tx, n int) error {
		messages := make([]outbox.Message, n)
		for i := range messages {
			messages[i] = outbox.Message{Key: t.QueueNames()[0], OrderingKey: key(t), Publishing: amqp.Publishing{Body: make([]byte, t.Size)}}
		}
		return o.Add(ctx, tx, messages...)
	})
	if err != nil || copies == 1 {
		return err
	}
	const columns = "shard, ordering_key, message, body, added_at"
	_, err = db.ExecContext(ctx, fmt.Sprintf("INSERT INTO amqpkit_outbox (%s) SELECT %s FROM amqpkit_outbox, generate_series(2, %d) AS copy ORDER BY copy, id", columns, columns, copies))
	return err
}

// inParts calls add with transactions for 500 rows each.
func inParts(ctx context.Context, db *bench.Database, rows int, add func(tx *sql.Tx, n int) error) error {
	const part = 500
	for ; rows > 0; rows -= part {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := add(tx, min(rows, part)); err != nil {
			_ = tx.Rollback()
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

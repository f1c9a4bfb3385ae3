package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/amqpkit/amqpkit/internal/sqldb"
)

// A Tx is a transaction of the caller. *sql.Tx is one. docs/consistency.md shows the few lines for a transaction of pgx.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// rowsPerInsert bounds the number of arguments of a statement.
const rowsPerInsert = 500

// Add stores messages in the transaction tx: they are published after it has committed, and never if it is rolled back.
//
// A message that a Producer would refuse is refused here, with a *[amqperr.FieldError] for each invalid field of each
// message. Nothing is stored then, and the transaction can continue. A message without a message id gets one. After an
// error of the database, roll the transaction back.
//
// Call [Outbox.Wake] after the commit, or use [Outbox.Transact], to have the messages published at once. Otherwise a
// Relay finds them at its next poll.
func (o *Outbox) Add(ctx context.Context, tx Tx, messages ...Message) error {
	rows := make([]row, len(messages))
	var errs []error
	for i, m := range messages {
		var err error
		if rows[i], err = newRow(m, o.cfg.MaxMessageSize); err != nil {
			errs = append(errs, fmt.Errorf("outbox: message %d: %w", i, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if o.cfg.LockKeys {
		if err := o.lockKeys(ctx, tx, messages); err != nil {
			return err
		}
	}
	for len(rows) > 0 {
		n := min(len(rows), rowsPerInsert)
		if err := o.insert(ctx, tx, rows[:n]); err != nil {
			return fmt.Errorf("outbox: add messages to %s: %w", o.cfg.Table, err)
		}
		rows = rows[n:]
	}
	return nil
}

func (o *Outbox) lockKeys(ctx context.Context, tx Tx, messages []Message) error {
	var keys []string
	for _, m := range messages {
		if m.OrderingKey != "" {
			keys = append(keys, m.OrderingKey)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	query, args := o.dialect.lockKeys(keys)
	if query == "" {
		return nil
	}
	if _, err := tx.ExecContext(ctx, o.bind(query), args...); err != nil {
		return fmt.Errorf("outbox: lock ordering keys: %w", err)
	}
	return nil
}

func (o *Outbox) insert(ctx context.Context, tx Tx, rows []row) error {
	value := "(?, ?, ?, ?, " + o.dialect.now() + ")"
	query := "INSERT INTO " + o.dialect.names().messages.String() + " (shard, ordering_key, message, body, added_at) VALUES " +
		join(rows, func(row) string { return value })
	args := make([]any, 0, 4*len(rows))
	for _, r := range rows {
		args = append(args, r.shard, r.key, string(r.message), r.body)
	}
	_, err := tx.ExecContext(ctx, o.bind(query), args...)
	return err
}

func (o *Outbox) bind(query string) string { return sqldb.Dialect(o.cfg.Dialect).Bind(query) }

// Wake makes the relays of this Outbox look for messages at once. Call it after the commit of a transaction that has
// added messages, or when another process has announced one, for example by PostgreSQL's NOTIFY. It does not block. It
// reaches only relays in this process: a message whose ordering key is published by another process waits for that
// process's next poll.
func (o *Outbox) Wake() { o.wake.send() }

// Transact begins a transaction, calls f, commits, and calls [Outbox.Wake]. If f returns an error or panics, the
// transaction is rolled back. Any error of f is returned unchanged.
func (o *Outbox) Transact(ctx context.Context, db *sql.DB, f func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("outbox: begin transaction: %w", err)
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("outbox: commit: %w", err)
	}
	o.Wake()
	return nil
}

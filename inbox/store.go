package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// errEnded is the result if f ended its transaction.
var errEnded = errors.New("inbox: the handler committed or rolled back the transaction; it must leave both to the inbox")

// An unavailableError reports that no transaction could be begun: the database is unreachable, or ctx ended.
type unavailableError struct{ error }

func (e *unavailableError) Unwrap() error { return e.error }

// isUnavailable reports whether further transactions would fail, too.
func isUnavailable(err error) bool {
	var u *unavailableError
	return errors.As(err, &u)
}

// transact calls f within a transaction. It commits if f returns nil. Otherwise, or if f does not return, it rolls back.
func (x *inbox) transact(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return &unavailableError{fmt.Errorf("inbox: begin a transaction: %w", err)}
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	switch err := tx.Commit(); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("inbox: commit: %w: %w", context.Cause(ctx), err)
	case errors.Is(err, sql.ErrTxDone):
		return errEnded
	default:
		return fmt.Errorf("inbox: commit, whose outcome may be unknown: %w", err)
	}
}

// maxRows is the number of ids in a statement. Databases limit the number of placeholders, SQLite to 32766.
const maxRows = 1000

// store stores the keys of messages, and returns the keys that were not stored before. The keys are inserted in order, so
// that two transactions that store some of the same keys wait for each other but do not deadlock.
func (x *inbox) store(ctx context.Context, tx *sql.Tx, messages []message) (isNew map[key]bool, err error) {
	keys := make([]key, len(messages))
	for i, m := range messages {
		keys[i] = m.key
	}
	slices.SortFunc(keys, compareKeys)
	isNew = make(map[key]bool, len(keys))
	for chunk := range slices.Chunk(slices.Compact(keys), maxRows) {
		insert := x.insertCounted
		if len(chunk) > 1 && x.sql.returning != "" {
			insert = x.insertReturning
		}
		if err := insert(ctx, tx, chunk, isNew); err != nil {
			return nil, fmt.Errorf("inbox: store the message ids: %w", err)
		}
	}
	return isNew, nil
}

func (x *inbox) insertReturning(ctx context.Context, tx *sql.Tx, keys []key, isNew map[key]bool) error {
	rows, err := tx.QueryContext(ctx, x.sql.store(len(keys))+x.sql.returning, arguments(keys)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var consumer, id []byte
		if err := rows.Scan(&consumer, &id); err != nil {
			return err
		}
		isNew[key{string(consumer), string(id)}] = true
	}
	return rows.Err()
}

// insertCounted inserts without RETURNING. The count of rows shows only whether all keys or none are new, so keys of which
// some are stored already are inserted one by one.
func (x *inbox) insertCounted(ctx context.Context, tx *sql.Tx, keys []key, isNew map[key]bool) error {
	if len(keys) > 1 {
		if _, err := tx.ExecContext(ctx, "SAVEPOINT amqpkit_inbox"); err != nil {
			return err
		}
	}
	n, err := x.insert(ctx, tx, keys)
	if err != nil || n == 0 {
		return err
	}
	if n == len(keys) {
		for _, k := range keys {
			isNew[k] = true
		}
		return nil
	}
	if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT amqpkit_inbox"); err != nil {
		return err
	}
	for _, k := range keys {
		if n, err = x.insert(ctx, tx, []key{k}); err != nil {
			return err
		}
		if n == 1 {
			isNew[k] = true
		}
	}
	return nil
}

func (x *inbox) insert(ctx context.Context, tx *sql.Tx, keys []key) (n int, err error) {
	result, err := tx.ExecContext(ctx, x.sql.store(len(keys)), arguments(keys)...)
	if err != nil {
		return 0, err
	}
	affected, err := result.RowsAffected()
	return int(affected), err
}

func arguments(keys []key) []any {
	args := make([]any, 0, 2*len(keys))
	for _, k := range keys {
		args = append(args, []byte(k.consumer), []byte(k.id))
	}
	return args
}

package outbox

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A FailedMessage is a message that was set aside.
type FailedMessage struct {
	ID       int64 // the number of the message in the table
	Message  Message
	FailedAt time.Time
	Attempts []Attempt // the first failed attempt and the latest ones
}

// Failed returns up to limit messages that were set aside, in the order of their ids, starting after the id after. It
// does not change them.
func (o *Outbox) Failed(ctx context.Context, db *sql.DB, after int64, limit int) ([]FailedMessage, error) {
	query := fmt.Sprintf("SELECT id, ordering_key, message, body, errors, failed_at FROM %s WHERE shard < 0 AND failed_at IS NOT NULL AND id > ? ORDER BY id LIMIT %d",
		o.dialect.names().messages, limit)
	rows, err := db.QueryContext(ctx, o.bind(query), after)
	if err != nil {
		return nil, fmt.Errorf("outbox: list failed messages: %w", err)
	}
	defer rows.Close()
	var list []FailedMessage
	for rows.Next() {
		var r row
		var failedAt int64
		if err := rows.Scan(&r.id, &r.key, &r.message, &r.body, &r.errors, &failedAt); err != nil {
			return nil, fmt.Errorf("outbox: list failed messages: %w", err)
		}
		m, _ := r.publishing() // a message may be set aside because it cannot be decoded
		list = append(list, FailedMessage{
			ID: r.id, FailedAt: time.UnixMicro(failedAt).UTC(), Attempts: attempts(r.errors),
			Message: Message{Exchange: m.Exchange, Key: m.Key, Publishing: m.Publishing, OrderingKey: orderingKey(r.key, m.Publishing.MessageId)},
		})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("outbox: list failed messages: %w", err)
	}
	return list, nil
}

// Replay publishes messages that were set aside again, with RelayConfig.MaxAttempts further attempts. Without ids it
// replays all. It returns their number. Correct the cause first, for example the missing binding.
func (o *Outbox) Replay(ctx context.Context, db *sql.DB, ids ...int64) (int, error) {
	if len(ids) == 0 {
		var err error
		if ids, err = o.failedIDs(ctx, db); err != nil {
			return 0, fmt.Errorf("outbox: replay failed messages: %w", err)
		}
	}
	n, err := o.change(ctx, db, ids, func(table string) string { return "UPDATE " + table + " SET failed_at = NULL, attempts = 0" })
	if err != nil {
		return 0, fmt.Errorf("outbox: replay failed messages: %w", err)
	}
	return n, nil
}

// failedIDs returns the ids of all messages that were set aside. An UPDATE without ids would wait for transactions that
// have added messages in MySQL.
func (o *Outbox) failedIDs(ctx context.Context, db *sql.DB) (ids []int64, err error) {
	rows, err := db.QueryContext(ctx, "SELECT id FROM "+o.dialect.names().messages.String()+" WHERE shard < 0 AND failed_at IS NOT NULL ORDER BY ordering_key, id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// Drop deletes messages that were set aside; they are never published. It needs at least one id, and returns the number of
// deleted messages.
func (o *Outbox) Drop(ctx context.Context, db *sql.DB, ids ...int64) (int, error) {
	if len(ids) == 0 {
		return 0, fault("ids", "are missing", "pass the ids of messages that Failed returned")
	}
	n, err := o.change(ctx, db, ids, o.dialect.deleteFrom)
	if err != nil {
		return 0, fmt.Errorf("outbox: drop failed messages: %w", err)
	}
	return n, nil
}

// change executes a statement for messages m that were set aside, and makes their keys due.
func (o *Outbox) change(ctx context.Context, db *sql.DB, ids []int64, statement func(table string) string) (changed int, err error) {
	tx, err := db.BeginTx(ctx, o.dialect.isolation())
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // after Commit it does nothing
	for chunk := range slices.Chunk(ids, rowsPerInsert) {
		n, err := o.changeChunk(ctx, tx, chunk, statement)
		if err != nil {
			return 0, err
		}
		changed += int(n)
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	o.Wake()
	return changed, nil
}

func (o *Outbox) changeChunk(ctx context.Context, tx *sql.Tx, ids []int64, statement func(table string) string) (int64, error) {
	names, table := o.dialect.names(), o.dialect.byID()
	where := " WHERE m.shard < 0 AND m.failed_at IS NOT NULL AND m.id IN (" + join(ids, func(id int64) string { return strconv.FormatInt(id, 10) }) + ")"

	// The key of a message that was set aside may have no row any more. Its row is written before the message changes, so
	// that a relay finds a consistent state at any time.
	if _, err := tx.ExecContext(ctx, "INSERT INTO "+names.keys.String()+" (ordering_key, shard, retry_at) SELECT DISTINCT m.ordering_key, m.shard, 0 FROM "+
		table+where+" ORDER BY 1"+o.dialect.upsert()); err != nil {
		return 0, err
	}
	result, err := tx.ExecContext(ctx, statement(table)+where)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Stats are the numbers of messages in an outbox.
type Stats struct {
	Waiting  int           // messages to be published, including held ones
	Held     int           // messages that wait for another attempt, or behind a message with their ordering key
	SetAside int           // messages that were set aside
	Oldest   time.Duration // the time since Add of the oldest waiting message
}

// Stats counts the messages with one query, which reads the whole table: about 0.1 s for a million messages. See
// [Outbox.StatsQuery] for monitoring by SQL.
func (o *Outbox) Stats(ctx context.Context, db *sql.DB) (s Stats, err error) {
	var oldest int64
	if err := db.QueryRowContext(ctx, o.StatsQuery()).Scan(&s.Waiting, &oldest, &s.Held, &s.SetAside); err != nil {
		return s, fmt.Errorf("outbox: count messages: %w", err)
	}
	s.Oldest = time.Duration(oldest) * time.Microsecond
	return s, nil
}

// StatsQuery returns the query of [Outbox.Stats], for tools that monitor databases. Its columns are waiting,
// oldest_waiting_us (microseconds), held and set_aside.
func (o *Outbox) StatsQuery() string {
	return fmt.Sprintf(`SELECT COUNT(CASE WHEN failed_at IS NULL THEN 1 END) AS waiting,
  COALESCE(%s - MIN(CASE WHEN failed_at IS NULL THEN added_at END), 0) AS oldest_waiting_us,
  COUNT(CASE WHEN shard < 0 AND failed_at IS NULL THEN 1 END) AS held,
  COUNT(failed_at) AS set_aside
FROM %s`, o.dialect.now(), o.dialect.names().messages)
}

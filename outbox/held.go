package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Held messages
//
// When an attempt fails, the message and the later ones with its key are held: their shard becomes negative, so that queries
// for other messages do not pass them, and the key gets a row in the table of keys with the time of the next attempt.
// While that row exists, new messages with the key are moved to the held ones. When the time has come, the held messages
// of the key are published in order; when none is left, the row is deleted. All of that is in the tables, so that another
// relay continues where this one ended.
//
// A message that is set aside has a value in failed_at. It stays in the table until it is replayed or dropped.

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second

	dueKeys  = 100           // keys in one batch
	heldRows = 64            // messages of a key in one batch
	never    = math.MaxInt64 // retry_at of a key that waits for Replay or Drop

	historyLength = 8   // attempts that the history keeps
	historyText   = 300 // bytes of the error of each
)

// An Attempt is a failed attempt to publish a message.
type Attempt struct {
	Attempt int       `json:"attempt"` // number of the attempt, from 1
	Time    time.Time `json:"time"`
	Error   string    `json:"error"`
}

// readHeld adds the held messages of keys that are due to a batch.
func (w *worker) readHeld(ctx context.Context, shards []int, b *batch) error {
	w.nextDue = time.Now().Add(duePoll)
	o := w.r.outbox
	names, now := o.dialect.names(), o.dialect.now()
	held := join(shards, func(shard int) string { return strconv.Itoa(heldShard(shard)) })
	keys, err := queryStrings(ctx, w.r.db, fmt.Sprintf("SELECT ordering_key FROM %s WHERE shard IN (%s) AND retry_at <= %s ORDER BY retry_at LIMIT %d",
		names.keys, held, now, dueKeys))
	if err != nil {
		return fmt.Errorf("outbox: read held keys: %w", err)
	}
	for _, key := range keys {
		if b.byKey[key] != nil {
			continue // its first messages were read before the key was held; the next batch is complete
		}
		query := "SELECT " + rowColumns(now) + " FROM " + names.messages.String() + " m LEFT JOIN " + names.keys.String() +
			" k ON k.ordering_key = m.ordering_key WHERE m.ordering_key = ? AND m.shard < 0 AND m.failed_at IS NULL"
		args := []any{key}
		if w.r.cfg.StopKeys {
			query += " AND NOT EXISTS (" + setAside(names) + " AND f.id < m.id)"
			args = append(args, key)
		}
		rows, err := w.query(ctx, query+" ORDER BY m.id LIMIT "+strconv.Itoa(heldRows), args...)
		if err != nil {
			return fmt.Errorf("outbox: read held messages: %w", err)
		}
		b.addQueue(&keyQueue{key: key, rows: rows, held: true, partial: len(rows) == heldRows})
		b.read += len(rows)
	}
	if len(keys) > 0 {
		w.nextDue = time.Time{}
	}
	return nil
}

func queryStrings(ctx context.Context, db *sql.DB, query string, args ...any) (list []string, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// hold holds the failed messages of a batch and those behind them, and releases keys without held messages. It does
// nothing without the leases: another relay may have released a key, and a message that is held without its key would
// not be found again.
func (b *batch) hold() error {
	if b.ctx.Err() != nil {
		return nil
	}
	var changed []keyChange
	var drained []string
	moved := b.moved
	for _, q := range b.keys {
		switch {
		case q.failed: // below
		case q.held && len(q.rows) == 0 && !q.partial:
			drained = append(drained, q.key)
		case !q.held && len(q.rows) > crowd:
			changed = append(changed, keyChange{key: q.key})
			moved = append(moved, q.rows...)
			b.moved = append(b.moved, q.rows...)
		}
	}
	for _, f := range b.failed {
		c := keyChange{key: f.row.key, failed: f.row}
		f.row.attempts++
		f.row.errors = addAttempt(f.row.errors, Attempt{f.row.attempts, time.Now().UTC().Truncate(time.Millisecond), validate.Unprefixed(f.err).Error()})
		most := b.w.r.cfg.MaxAttempts
		c.setAside = amqperr.IsPermanent(f.err) || most > 0 && f.row.attempts >= most
		if !c.setAside {
			c.delay = min(firstRetry<<min(f.row.attempts-1, 10), lastRetry)
		} else if b.w.r.cfg.StopKeys {
			c.delay = never
		}
		changed = append(changed, c)
		if q := b.byKey[f.row.key]; !q.held {
			moved = append(moved, q.rows...)
		}
		b.report(f, c)
	}
	if len(changed)+len(moved)+len(drained) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), b.w.r.cfg.Lease)
	defer cancel()
	if err := b.w.r.changeKeys(ctx, changed, moved, drained); err != nil {
		return fmt.Errorf("outbox: hold messages: %w", err)
	}
	return nil
}

// A keyChange holds an ordering key.
type keyChange struct {
	key      string
	failed   *row          // nil if the key is held because it has many messages
	delay    time.Duration // until the next attempt; never, until Replay or Drop
	setAside bool
}

// report counts and logs a failure.
func (b *batch) report(f failure, c keyChange) {
	ctx, r := b.stopping, b.w.r
	r.counts.failures.Add(1)
	m, _ := f.row.publishing()
	attrs := []slog.Attr{
		slog.String("message_id", m.Publishing.MessageId), slog.String("to", m.Exchange), slog.Int("attempt", f.row.attempts), slog.Any("error", f.err),
	}
	if c.setAside {
		r.counts.setAside.Add(1)
		r.cfg.Logger.LogAttrs(ctx, slog.LevelError, "outbox: message set aside; replay or drop it", attrs...)
		return
	}
	r.warnings.Warn(ctx, r.cfg.Logger, "failed", "outbox: message not published; trying again", append(attrs, slog.Duration("delay", c.delay))...)
}

// changeKeys executes the changes in one transaction.
func (r *Relay) changeKeys(ctx context.Context, changed []keyChange, moved []*row, drained []string) error {
	names, now := r.outbox.dialect.names(), r.outbox.dialect.now()
	messages, keys := names.messages.String(), names.keys.String()
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	exec := func(query string, args ...any) {
		if err == nil {
			_, err = r.exec(ctx, tx, query, args...)
		}
	}
	for _, c := range changed {
		at, args := now+" + ?", []any{c.key, heldShard(shardOf(c.key)), c.delay.Microseconds()}
		if c.delay == never {
			at, args[2] = "?", int64(never)
		}
		exec("DELETE FROM "+keys+" WHERE ordering_key = ?", c.key)
		exec("INSERT INTO "+keys+" (ordering_key, shard, retry_at) VALUES (?, ?, "+at+")", args...)
		if c.failed == nil {
			continue
		}
		failedAt := "NULL"
		if c.setAside {
			failedAt = now
		}
		exec("UPDATE "+messages+" SET shard = ?, attempts = ?, errors = ?, failed_at = "+failedAt+" WHERE shard = ? AND id = ?",
			heldShard(shardOf(c.key)), c.failed.attempts, c.failed.errors, c.failed.shard, c.failed.id)
	}
	for shard, ids := range byShard(moved) {
		exec(fmt.Sprintf("UPDATE %s SET shard = %d WHERE shard = %d AND id IN (%s)", messages, heldShard(shard), shard,
			join(ids, func(id int64) string { return strconv.FormatInt(id, 10) })))
	}
	waiting := "m.failed_at IS NULL"
	if r.cfg.StopKeys {
		waiting = "1 = 1"
	}
	for _, key := range drained {
		exec("DELETE FROM "+keys+" WHERE ordering_key = ? AND NOT EXISTS (SELECT 1 FROM "+messages+" m WHERE m.ordering_key = ? AND m.shard < 0 AND "+waiting+")", key, key)
		if r.cfg.StopKeys {
			exec("UPDATE "+keys+" SET retry_at = ? WHERE ordering_key = ? AND EXISTS ("+setAside(names)+")", int64(never), key, key)
		}
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// setAside is a query for messages f of an ordering key that were set aside.
func setAside(names tables) string {
	return "SELECT 1 FROM " + names.messages.String() + " f WHERE f.ordering_key = ? AND f.shard < 0 AND f.failed_at IS NOT NULL"
}

func byShard(rows []*row) map[int][]int64 {
	ids := map[int][]int64{}
	for _, r := range rows {
		ids[r.shard] = append(ids[r.shard], r.id)
	}
	return ids
}

// addAttempt adds an attempt to a history. It keeps the first attempt and the latest ones.
func addAttempt(history string, a Attempt) string {
	list := attempts(history)
	if len(list) >= historyLength {
		list = append(list[:1], list[2:]...)
	}
	a.Error = validate.Printable(cut(a.Error, historyText))
	text, err := json.Marshal(append(list, a))
	if err != nil {
		return history
	}
	return string(text)
}

// attempts returns a history. It is empty if the column contains something else.
func attempts(history string) (list []Attempt) {
	if json.Unmarshal([]byte(history), &list) != nil {
		return nil
	}
	return list
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

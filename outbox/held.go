package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
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
	due := "retry_at <= " + now
	if !w.r.cfg.StopKeys { // a relay with StopKeys may have stopped the key
		due = fmt.Sprintf("(%s OR retry_at = %d)", due, int64(never))
	}
	keys, err := queryStrings(ctx, w.r.db, fmt.Sprintf("SELECT ordering_key FROM %s WHERE shard IN (%s) AND %s ORDER BY retry_at LIMIT %d",
		names.keys, held, due, dueKeys))
	if err != nil {
		return fmt.Errorf("outbox: read held keys: %w", err)
	}
	messages, size := w.r.cfg.BatchSize, w.r.cfg.BatchBytes
	b.crowded = len(keys) == dueKeys
	for _, key := range keys {
		if messages <= 0 || size <= 0 {
			b.crowded = true
			break
		}
		if b.byKey[key] != nil {
			continue // its first messages were read before the key was held; the next batch is complete
		}
		query := "SELECT " + rowColumns(now) + " FROM " + names.messages.String() + " m LEFT JOIN " + names.keys.String() +
			" k ON k.ordering_key = m.ordering_key WHERE m.ordering_key = ? AND " + o.dialect.held(shardOf(key)) + " AND m.failed_at IS NULL"
		args := []any{key}
		if w.r.cfg.StopKeys {
			query += " AND NOT EXISTS (" + setAside(names) + " AND f.id < m.id)"
			args = append(args, key)
		}
		limit := min(heldRows, messages)
		rows, err := w.query(ctx, size, query+" ORDER BY m.id LIMIT "+strconv.Itoa(limit), args...)
		if err != nil {
			return fmt.Errorf("outbox: read held messages: %w", err)
		}
		for _, r := range rows {
			size -= len(r.body)
		}
		b.addQueue(&keyQueue{key: key, rows: rows, held: true, partial: len(rows) == limit || size <= 0})
		b.read += len(rows)
		messages -= len(rows)
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
	moved := b.moved
	for _, q := range b.keys {
		switch {
		case q.failed: // below
		case q.held && len(q.rows) == 0 && !q.partial:
			changed = append(changed, keyChange{key: q.key, drained: true})
		case q.held && b.crowded:
			changed = append(changed, keyChange{key: q.key}) // behind the keys that are waiting longer
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
			c.delay = min(firstRetry<<min(max(f.row.attempts-1, 0), 10), lastRetry)
		}
		changed = append(changed, c)
		if q := b.byKey[f.row.key]; !q.held {
			moved = append(moved, q.rows...)
		}
		b.report(f, c)
	}
	if len(changed)+len(moved) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), b.w.r.cfg.Lease)
	defer cancel()
	if err := b.changeKeys(ctx, changed, moved); err != nil {
		return fmt.Errorf("outbox: hold messages: %w", err)
	}
	return nil
}

// A keyChange holds an ordering key, or changes the time of its next attempt.
type keyChange struct {
	key      string
	failed   *row          // nil if the key is held because it has many messages, or waits for others
	delay    time.Duration // until the next attempt
	setAside bool
	drained  bool // the held messages that were read are published
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

// changeKeys executes the changes in one transaction, unless another relay has taken over one of the shards.
func (b *batch) changeKeys(ctx context.Context, changed []keyChange, moved []*row) error {
	r := b.w.r
	d := r.outbox.dialect
	keys, now := d.names().keys.String(), d.now()
	tx, err := r.db.BeginTx(ctx, d.isolation())
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	exec := func(query string, args ...any) {
		if err == nil {
			_, err = r.exec(ctx, tx, query, args...)
		}
	}
	// Replay and Drop lock the rows of keys in the same order.
	slices.SortFunc(changed, func(a, b keyChange) int { return strings.Compare(a.key, b.key) })
	for _, c := range changed {
		if c.drained {
			exec("UPDATE "+keys+" SET retry_at = "+now+" WHERE ordering_key = ?", c.key)
			continue
		}
		exec("INSERT INTO "+keys+" (ordering_key, shard, retry_at) VALUES (?, ?, "+now+" + ?)"+d.upsert(), c.key, heldShard(shardOf(c.key)), c.delay.Microseconds())
		if c.failed == nil {
			continue
		}
		failedAt := "NULL"
		if c.setAside {
			failedAt = now
		}
		exec("UPDATE "+d.byID()+" SET shard = ?, attempts = ?, errors = ?, failed_at = "+failedAt+" WHERE m.shard = ? AND m.id = ?",
			heldShard(shardOf(c.key)), c.failed.attempts, c.failed.errors, c.failed.shard, c.failed.id)
	}
	for shard, rows := range byShard(moved) {
		exec(fmt.Sprintf("UPDATE %s SET shard = %d WHERE m.shard = %d AND m.id IN (%s)", d.byID(), heldShard(shard), shard, idsOf(rows)))
	}
	for _, c := range changed {
		if c.drained && err == nil {
			err = r.release(ctx, tx, c.key)
		}
	}
	if err == nil {
		err = b.checkLeases(ctx, tx)
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// release deletes the row of a key without held messages, or stops the key if a message that was set aside is the first
// of them. The row must be locked. The query locks nothing, so that it does not wait for a transaction that has added
// messages with the key.
func (r *Relay) release(ctx context.Context, tx *sql.Tx, key string) error {
	names := r.outbox.dialect.names()
	first := func(condition string) (id sql.NullInt64, err error) {
		query := "SELECT MIN(m.id) FROM " + names.messages.String() + " m WHERE m.ordering_key = ? AND " + r.outbox.dialect.held(shardOf(key)) + " AND m.failed_at " + condition
		return id, tx.QueryRowContext(ctx, r.outbox.bind(query), key).Scan(&id)
	}
	waiting, err := first("IS NULL")
	if err != nil {
		return err
	}
	if r.cfg.StopKeys {
		aside, err := first("IS NOT NULL")
		switch {
		case err != nil:
			return err
		case aside.Valid && (!waiting.Valid || aside.Int64 < waiting.Int64):
			_, err = r.exec(ctx, tx, "UPDATE "+names.keys.String()+" SET retry_at = ? WHERE ordering_key = ?", int64(never), key)
			return err
		}
	}
	if !waiting.Valid {
		_, err = r.exec(ctx, tx, "DELETE FROM "+names.keys.String()+" WHERE ordering_key = ?", key)
	}
	return err
}

// checkLeases returns an error if another relay has taken over a shard of the batch. It would not expect changes of keys.
func (b *batch) checkLeases(ctx context.Context, tx *sql.Tx) error {
	r := b.w.r
	var n int
	query := "SELECT COUNT(*) FROM " + r.outbox.dialect.names().leases.String() + " WHERE holder = ? AND name IN (" +
		join(b.shards, func(shard int) string { return "'" + shardLease(shard) + "'" }) + ")"
	if err := tx.QueryRowContext(ctx, r.outbox.bind(query), r.leases.holder).Scan(&n); err != nil {
		return err
	}
	if n != len(b.shards) {
		return errLeaseLost
	}
	return nil
}

// setAside is a query for messages f of an ordering key that were set aside.
func setAside(names tables) string {
	return "SELECT 1 FROM " + names.messages.String() + " f WHERE f.ordering_key = ? AND f.shard < 0 AND f.failed_at IS NOT NULL"
}

func byShard(rows []*row) map[int][]*row {
	shards := map[int][]*row{}
	for _, r := range rows {
		shards[r.shard] = append(shards[r.shard], r)
	}
	return shards
}

// addAttempt adds an attempt to a history. It keeps the first attempt and the latest ones.
func addAttempt(history string, a Attempt) string {
	list := attempts(history)
	if len(list) >= historyLength {
		list = append(list[:1], list[2:]...)
	}
	a.Error = cut(validate.Printable(a.Error), historyText)
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would make < six bytes long; MySQL's column has 8000
	if err := e.Encode(append(list, a)); err != nil {
		return history
	}
	return strings.TrimSuffix(b.String(), "\n")
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
	return strings.ToValidUTF8(s[:n], "") + "…"
}

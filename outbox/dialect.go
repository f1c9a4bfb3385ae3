package outbox

import (
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"github.com/amqpkit/amqpkit/internal/sqldb"
)

// A dialect holds the statements that differ between databases. Arguments are written as ?; sqldb.Bind translates them.
//
// Times are microseconds since 1970 by the clock of the database, so that the clocks of processes do not matter and
// arithmetic is the same everywhere.
type dialect interface {
	names() tables

	// schema returns the statements that create the tables if they do not exist.
	schema() []string

	// now is the expression of the current time.
	now() string

	// lockKeys returns a statement that locks ordering keys until the transaction ends, or "".
	lockKeys(keys []string) (query string, args []any)

	// read returns the query for the first messages of each shard above its floor: at most limit for each shard, and
	// about size bytes of bodies. See rowColumns for the result.
	read(ranges []shardRange, limit, size int) (query string, args []any)

	// remove returns the statement that deletes messages.
	remove(rows []*row) (query string, args []any)

	// held is the condition for the held messages m of an ordering key with this shard.
	held(shard int) string

	// upsert is the end of an INSERT of keys that changes the keys that exist.
	upsert() string

	// keep is the end of an INSERT of names that keeps the rows that exist.
	keep() string

	// byID is the table of messages in an UPDATE or DELETE of messages m with known ids.
	byID() string

	// deleteFrom is the beginning of a DELETE of messages m from a table of byID.
	deleteFrom(table string) string

	// isolation is the isolation level of transactions that change keys.
	isolation() *sql.TxOptions

	// writers returns the query for the transactions that may have added messages and have not ended, or "" if messages
	// of such a transaction always get higher ids than visible ones, or if a floor is useless.
	writers() string
}

// A shardRange is the part of a shard above an id.
type shardRange struct {
	shard int
	floor int64
}

// tables are the names of the tables.
type tables struct {
	messages, keys, leases, locks, meta sqldb.Table
}

func newDialect(name sqldb.Dialect, table sqldb.Table) dialect {
	t := tables{table, table.Companion("_keys"), table.Companion("_leases"), table.Companion("_locks"), table.Companion("_meta")}
	switch name {
	case sqldb.PostgreSQL:
		return postgresql{t}
	case sqldb.SQLite:
		return sqlite{t}
	default:
		return mysql{t}
	}
}

func (t tables) names() tables { return t }

func (tables) held(int) string { return "m.shard < 0" } // the condition of the index of held messages

func (tables) upsert() string {
	return " ON CONFLICT (ordering_key) DO UPDATE SET shard = excluded.shard, retry_at = excluded.retry_at"
}

func (tables) keep() string { return " ON CONFLICT DO NOTHING" }

func (t tables) byID() string { return t.messages.String() + " AS m" }

func (tables) deleteFrom(table string) string { return "DELETE FROM " + table }

func (tables) isolation() *sql.TxOptions { return nil }

// rowColumns are the columns of a query for messages, from tables m (messages) and k (keys).
func rowColumns(now string) string {
	return "m.id, m.shard, m.ordering_key, m.message, m.body, m.attempts, m.errors, " + now +
		" - m.added_at, CASE WHEN k.ordering_key IS NULL THEN 0 ELSE 1 END"
}

// unionRead is dialect.read for databases without LATERAL joins. Bodies are read by a join, after the limits have been
// applied to their sizes.
func unionRead(t tables, now string, ranges []shardRange, limit, size int) string {
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		parts[i] = fmt.Sprintf("SELECT id FROM (SELECT id, SUM(size) OVER (ORDER BY id) - size AS sum_before FROM "+
			"(SELECT id, LENGTH(body) AS size FROM %s WHERE shard = %d AND id > %d ORDER BY id LIMIT %d) s%d) b%d WHERE sum_before < %d",
			t.messages, r.shard, r.floor, limit, i, i, size/len(ranges)+1)
	}
	return "SELECT " + rowColumns(now) + " FROM (" + strings.Join(parts, " UNION ALL ") + ") p JOIN " + t.messages.String() +
		" m ON m.id = p.id LEFT JOIN " + t.keys.String() + " k ON k.ordering_key = m.ordering_key ORDER BY m.id"
}

// idsOf returns the ids of rows for a statement.
func idsOf(rows []*row) string {
	return join(rows, func(r *row) string { return strconv.FormatInt(r.id, 10) })
}

// join returns a comma-separated list. Numbers are written into statements because the limits on the number of
// arguments differ between databases.
func join[T any](list []T, text func(T) string) string {
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(text(v))
	}
	return b.String()
}

package inbox

import (
	"fmt"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/internal/sqldb"
)

const schemaVersion = 1

// statements is the SQL of an inbox. Times are seconds since 1970 by the clock of the database, which all processes share.
type statements struct {
	sqldb.Dialect
	create  []string // each is repeatable
	version string   // selects the version of the schema; fails if a table is missing

	insert, row, ignore, returning string // the parts of the statement that stores ids, see store

	claim  string // starts a pass of Run unless one started within the interval
	expire string // selects the number of the oldest expired ids, at most a limit, and their latest time
	remove string // removes that number of expired ids
}

func newStatements(d sqldb.Dialect, t sqldb.Table, retention time.Duration) statements {
	s := statements{Dialect: d, insert: "INSERT INTO", ignore: " ON CONFLICT (consumer, id) DO NOTHING", returning: " RETURNING consumer, id"}
	// Names and ids are bytes: text would be compared by a collation, without trailing spaces in MySQL, and PostgreSQL
	// accepts neither NUL nor invalid UTF-8 in it.
	var now, bytes, index, options, version string
	oldest := "SELECT %s FROM %s WHERE expires >= ? AND expires < %s ORDER BY expires LIMIT ?"
	var remove string
	switch d {
	case sqldb.PostgreSQL:
		now, bytes, version = "EXTRACT(EPOCH FROM now())::bigint", "bytea", " ON CONFLICT (name) DO NOTHING"
		remove = fmt.Sprintf("DELETE FROM %s WHERE ctid = ANY(ARRAY("+oldest+"))", t, "ctid", t, now)
	case sqldb.SQLite:
		now, bytes, version = "CAST(strftime('%s', 'now') AS INTEGER)", "BLOB", " ON CONFLICT (name) DO NOTHING"
		options = " WITHOUT ROWID"
		remove = fmt.Sprintf("DELETE FROM %s WHERE (consumer, id) IN ("+oldest+")", t, "consumer, id", t, now)
	case sqldb.MySQL:
		now, bytes, index, options = "UNIX_TIMESTAMP()", "VARBINARY(255)", ", KEY expires (expires)", " ENGINE=InnoDB"
		s.insert, s.ignore, s.returning = "INSERT IGNORE INTO", "", ""
		// The order of the join and the index are fixed, and the limit is the number of expired ids: the statement locks each
		// row that it reads, and would wait for a handler that has stored an id.
		forced := strings.Replace(oldest, " WHERE", " FORCE INDEX (expires) WHERE", 1)
		remove = fmt.Sprintf("DELETE i FROM ("+forced+") AS oldest STRAIGHT_JOIN %[2]s AS i ON i.consumer = oldest.consumer AND i.id = oldest.id", "consumer, id", t, now)
	}
	meta := t.Companion("_meta")
	s.create = []string{fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (consumer %s NOT NULL, id %[2]s NOT NULL, expires bigint NOT NULL, PRIMARY KEY (consumer, id)%s)%s", t, bytes, index, options)}
	if d != sqldb.MySQL {
		s.create = append(s.create, t.CreateIndex("_expires", "expires"))
	}
	s.create = append(
		s.create,
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (name varchar(32) NOT NULL PRIMARY KEY, value bigint NOT NULL)%s", meta, options),
		fmt.Sprintf("%s %s (name, value) VALUES ('next_clean', 0), ('version', %d)%s", s.insert, meta, schemaVersion, version),
	)
	s.version = fmt.Sprintf("SELECT m.value FROM %s m LEFT JOIN %s i ON 1 = 0 WHERE m.name = 'version'", meta, t)

	s.insert += fmt.Sprintf(" %s (consumer, id, expires) VALUES ", t)
	s.row = fmt.Sprintf("(?, ?, %s + %d)", now, seconds(retention))

	// A time beyond the interval was written while the clock was wrong.
	s.claim = fmt.Sprintf("UPDATE %s SET value = %s + %d WHERE name = 'next_clean' AND value NOT BETWEEN %[2]s + 1 AND %[2]s + %[3]d", meta, now, int(interval.Seconds()))
	s.expire = d.Bind(fmt.Sprintf("SELECT COUNT(*), COALESCE(MAX(expires), 0) FROM ("+oldest+") AS oldest", "expires", t, now))
	s.remove = d.Bind(remove)
	return s
}

// store returns the statement that stores n ids. With returning, it returns the new ones.
func (s statements) store(n int) string {
	return s.Bind(s.insert + strings.TrimSuffix(strings.Repeat(s.row+", ", n), ", ") + s.ignore)
}

// seconds rounds up. The longest duration must not overflow.
func seconds(d time.Duration) int64 {
	n := int64(d / time.Second)
	if d%time.Second > 0 {
		n++
	}
	return n
}

// Package sqldb holds the differences between SQL databases that packages outbox and inbox share.
package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Dialect is the SQL of a kind of database.
type Dialect string

// The dialects. MySQL includes MariaDB.
const (
	PostgreSQL Dialect = "postgresql"
	SQLite     Dialect = "sqlite"
	MySQL      Dialect = "mysql"
)

// Check refuses an unknown dialect.
func (d Dialect) Check() *validate.Problem {
	const fix = `use "postgresql", "sqlite" or "mysql" (which includes MariaDB)`
	switch d {
	case PostgreSQL, SQLite, MySQL:
		return nil
	case "":
		return &validate.Problem{Problem: "is empty", Fix: fix}
	}
	return &validate.Problem{Problem: "unknown dialect " + validate.Quote(string(d)), Fix: fix}
}

// Bind replaces each ? of a query by the placeholder of the dialect: $1, $2, … for PostgreSQL. The query must not contain
// other question marks.
func (d Dialect) Bind(query string) string {
	if d != PostgreSQL {
		return query
	}
	var b strings.Builder
	for i, part := range strings.Split(query, "?") {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	return b.String()
}

// A Table is the checked name of a table. The database sees it exactly as written, because it is always quoted.
type Table struct {
	dialect      Dialect
	schema, name string // the schema may be empty
}

// Identifiers are short enough for a suffix: PostgreSQL truncates names to 63 bytes.
var tableName = regexp.MustCompile(`^(?:([A-Za-z_][A-Za-z0-9_]{0,47})\.)?([A-Za-z_][A-Za-z0-9_]{0,47})$`)

// Table checks a name of the form table or schema.table, whose parts are ASCII identifiers of at most 48 bytes.
func (d Dialect) Table(name string) (Table, *validate.Problem) {
	m := tableName.FindStringSubmatch(name)
	if m == nil {
		return Table{}, &validate.Problem{
			Problem: validate.Quote(name) + " is not the name of a table",
			Fix:     "use name or schema.name, each of ASCII letters, digits and _, not beginning with a digit, at most 48 bytes",
		}
	}
	return Table{d, m[1], m[2]}, nil
}

// Companion returns the table in the same schema whose name ends in suffix, which has at most 15 bytes.
func (t Table) Companion(suffix string) Table {
	t.name += suffix
	return t
}

// String returns the quoted name for use in a query.
func (t Table) String() string {
	if t.schema == "" {
		return t.quote(t.name)
	}
	return t.quote(t.schema) + "." + t.quote(t.name)
}

func (t Table) quote(identifier string) string {
	if t.dialect == MySQL {
		return "`" + identifier + "`"
	}
	return `"` + identifier + `"`
}

// CreateIndex returns the statement that creates an index on t unless it exists. Its name is the table's with suffix.
// MySQL has no such statement: use KEY in CREATE TABLE there.
func (t Table) CreateIndex(suffix, columns string) string {
	name, on := t.quote(t.name+suffix), t.String()
	if t.dialect == SQLite { // the schema belongs to the name of the index
		name, on = t.Companion(suffix).String(), t.quote(t.name)
	}
	return fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s (%s)", name, on, columns)
}

// Create executes statements that create t and its companions. Each must be repeatable. In PostgreSQL they run in one
// transaction under a lock: CREATE TABLE IF NOT EXISTS fails there if two connections run it at the same time.
func (t Table) Create(ctx context.Context, db *sql.DB, statements []string) error {
	if t.dialect != PostgreSQL {
		return execAll(ctx, db, statements)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	hash := fnv.New64a()
	hash.Write([]byte(t.schema + "." + t.name))
	lock := fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", int64(hash.Sum64())) // #nosec G115 -- any 64 bits
	if err := execAll(ctx, tx, append([]string{lock}, statements...)); err != nil {
		return err
	}
	return tx.Commit()
}

func execAll(ctx context.Context, to interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, statements []string,
) error {
	for _, s := range statements {
		if _, err := to.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

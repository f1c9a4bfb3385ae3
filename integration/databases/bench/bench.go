// Package bench is shared by the programs of make bench that use a database.
package bench

import (
	"database/sql"
	"strings"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/amqpkit/amqpkit/integration/bench/side"
	"github.com/amqpkit/amqpkit/integration/databases/internal/sqltrace"
	_ "github.com/amqpkit/amqpkit/integration/databases/servers" // the driver "pgx"
)

// A Database is the database of a task.
type Database struct {
	*sql.DB
	Dialect string

	queries atomic.Int64
}

// Open opens the database of a task.
func Open(t side.Task) (*Database, error) {
	d := &Database{Dialect: "sqlite"}
	driver, dsn := "sqlite", "file:"+t.Database+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate"
	if strings.HasPrefix(t.Database, "postgres") {
		d.Dialect, driver, dsn = "postgresql", "pgx", t.Database
	}
	var err error
	d.DB, err = sqltrace.Open(driver, dsn, func(s sqltrace.Statement) { d.queries.Add(int64(s.Took)) })
	if err == nil && d.Dialect == "sqlite" {
		d.SetMaxOpenConns(1) // one writer, as package outbox recommends
	}
	return d, err
}

// QueryTime returns the sum of the durations of all statements.
func (d *Database) QueryTime() time.Duration { return time.Duration(d.queries.Load()) }

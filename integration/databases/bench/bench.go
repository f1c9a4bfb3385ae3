// Package bench is shared by the programs of make bench that use a database.
package bench

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/amqpkit/amqpkit/integration/bench/side"
	"github.com/amqpkit/amqpkit/integration/databases/internal/sqltrace"
	_ "github.com/amqpkit/amqpkit/integration/databases/servers" // the driver "pgx"
	"github.com/amqpkit/amqpkit/outbox"
)

// A Database is the database of a task.
type Database struct {
	*sql.DB
	Dialect string

	queries atomic.Int64
}

// Open connects to the database of a task.
func Open(ctx context.Context, t side.Task) (*Database, error) {
	d := &Database{Dialect: "sqlite"}
	driver, dsn := "sqlite", "file:"+t.Database+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate"
	if IsPostgres(t) {
		d.Dialect, driver, dsn = "postgresql", "pgx", t.Database
	}
	var err error
	d.DB, err = sqltrace.Open(driver, dsn, func(s sqltrace.Statement) { d.queries.Add(int64(s.Took)) })
	if err != nil {
		return nil, err
	}
	if d.Dialect == "sqlite" {
		d.SetMaxOpenConns(1) // one writer, as package outbox recommends
	} else {
		d.SetMaxIdleConns(8) // as many as the programs use
	}
	if err := d.PingContext(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// IsPostgres reports whether the database of a task is PostgreSQL. Otherwise it is SQLite.
func IsPostgres(t side.Task) bool { return strings.HasPrefix(t.Database, "postgres") }

// Outbox returns the outbox of all programs.
func (d *Database) Outbox() (*outbox.Outbox, error) {
	return outbox.New(outbox.Config{Dialect: d.Dialect})
}

// QueryTime returns the sum of the durations of all statements.
func (d *Database) QueryTime() time.Duration { return time.Duration(d.queries.Load()) }

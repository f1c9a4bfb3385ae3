package soak

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/integration/databases/servers"
	"github.com/amqpkit/amqpkit/internal/sqldb"
	"github.com/amqpkit/amqpkit/outbox"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Databases are the values of Options.Database.
const (
	Postgres = "postgres"
	MariaDB  = "mariadb"
	SQLite   = "sqlite"
)

// dialects are the names that package outbox and package inbox use.
var dialects = map[string]string{Postgres: "postgresql", MariaDB: "mysql", SQLite: "sqlite"}

// A database is one of the two databases. Worker processes receive it as JSON.
type database struct {
	Kind   string // Postgres, MariaDB or SQLite
	Driver string
	DSN    string

	server *servers.Server // nil for SQLite and in worker processes
	remove func() error    // removes an SQLite file
}

// startDatabase starts a server with an empty database, or creates a file.
func startDatabase(ctx context.Context, kind, name string) (*database, error) {
	d := &database{Kind: kind}
	start := servers.StartPostgres
	switch kind {
	case SQLite:
		path, remove, err := servers.SQLiteFile()
		d.Driver, d.remove = "sqlite", remove
		// A transaction that reads before it writes would fail with SQLITE_BUSY, so it takes the lock at its beginning.
		d.DSN = "file:" + path + "?_txlock=immediate&_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
		return d, err
	case MariaDB:
		start = servers.StartMariaDB
	}
	var err error
	if d.server, err = start(ctx); err != nil {
		return nil, err
	}
	d.Driver = d.server.Driver()
	if d.DSN, err = d.server.NewDatabase(ctx, name); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

func (d *database) stop() error {
	if d.server == nil {
		return d.remove()
	}
	return d.server.Stop()
}

func (d *database) String() string {
	if d.server == nil {
		return "SQLite"
	}
	return d.server.String()
}

// owned reports whether the run can kill and restart the database.
func (d *database) owned() bool { return d.server != nil && d.server.Owned() }

// open opens a pool of up to n connections. With SQLite it has one.
func (d *database) open(n int) (*sql.DB, error) {
	db, err := sql.Open(d.Driver, d.DSN)
	if err != nil {
		return nil, err
	}
	if d.Kind == SQLite {
		n = 1
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// bind replaces the placeholders of a query by the ones of the database.
func (d *database) bind(query string) string { return sqldb.Dialect(dialects[d.Kind]).Bind(query) }

func (d *database) newOutbox() (*outbox.Outbox, error) {
	return outbox.New(outbox.Config{Dialect: dialects[d.Kind]})
}

func (d *database) inboxConfig() inbox.Config {
	return inbox.Config{Dialect: dialects[d.Kind], Consumer: "soak"}
}

// createA creates the tables of database A: the rows, their versions, and the changes of all committed transactions. A
// row of versions exists for each possible item, deleted or not. Its lock serialises the transactions that change the item.
func (d *database) createA(ctx context.Context, items int) error {
	box, err := d.newOutbox()
	if err != nil {
		return err
	}
	return d.create(ctx, func(db *sql.DB) error {
		if err := box.Create(ctx, db); err != nil {
			return err
		}
		for item := range items {
			if _, err := db.ExecContext(ctx, fmt.Sprintf("INSERT INTO versions (item, version, live) VALUES (%d, 0, 0)", item)); err != nil {
				return err
			}
		}
		return nil
	},
		"CREATE TABLE versions (item BIGINT NOT NULL PRIMARY KEY, version BIGINT NOT NULL, live INTEGER NOT NULL)",
		itemsTable,
		"CREATE TABLE changes (item BIGINT NOT NULL, version BIGINT NOT NULL, name VARCHAR(64) NOT NULL, kind VARCHAR(16) NOT NULL, PRIMARY KEY (item, version))",
	)
}

// createB creates the tables of database B: the rows, and all changes in the order in which they were applied. No
// constraint prevents wrong changes, so that the judge sees them.
func (d *database) createB(ctx context.Context) error {
	number := map[string]string{
		Postgres: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
		MariaDB:  "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
		SQLite:   "INTEGER PRIMARY KEY AUTOINCREMENT",
	}[d.Kind]
	return d.create(ctx, func(db *sql.DB) error { return inbox.Create(ctx, db, d.inboxConfig()) },
		itemsTable,
		"CREATE TABLE applied (number "+number+", item BIGINT NOT NULL, version BIGINT NOT NULL, name VARCHAR(64) NOT NULL, kind VARCHAR(16) NOT NULL)",
	)
}

const itemsTable = "CREATE TABLE items (id BIGINT NOT NULL PRIMARY KEY, version BIGINT NOT NULL, name VARCHAR(64) NOT NULL)"

func (d *database) create(ctx context.Context, more func(*sql.DB) error, statements ...string) error {
	db, err := d.open(1)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return more(db)
}

// Package inbox_test tests package inbox on PostgreSQL, MariaDB and SQLite.
package inbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	_ "modernc.org/sqlite"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/integration/databases/servers"
)

func TestMain(m *testing.M) { os.Exit(dbkit.Main(m)) }

// A database is an empty database with the tables of an inbox and a table of effects.
type database struct {
	*sql.DB
	driver, dsn string
	inbox.Config
}

// onEach runs a test on an empty database of each kind.
func onEach(t *testing.T, f func(t *testing.T, db *database)) {
	t.Helper()
	for _, dialect := range []string{"postgresql", "mysql", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			f(t, newDatabase(t, dialect))
		})
	}
}

func newDatabase(t *testing.T, dialect string) *database {
	t.Helper()
	switch dialect {
	case "postgresql":
		return databaseOn(t, dialect, dbkit.Postgres(t))
	case "mysql":
		return databaseOn(t, dialect, dbkit.MariaDB(t))
	}
	path := t.TempDir() + "/inbox.sqlite"
	return prepare(t, &database{driver: "sqlite", dsn: "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"}, dialect)
}

func databaseOn(t *testing.T, dialect string, server *servers.Server) *database {
	t.Helper()
	dsn, err := server.NewDatabase(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}
	return prepare(t, &database{driver: server.Driver(), dsn: dsn}, dialect)
}

func prepare(t *testing.T, db *database, dialect string) *database {
	t.Helper()
	db.Config = inbox.Config{Dialect: dialect, Logger: slog.New(slog.DiscardHandler)}
	db.DB = db.open(t)
	if err := inbox.Create(t.Context(), db.DB, db.Config); err != nil {
		t.Fatal(err)
	}
	db.exec(t, "CREATE TABLE effects (message varchar(255) NOT NULL)")
	return db
}

// open opens a second pool of connections to the database.
func (db *database) open(t *testing.T) *sql.DB {
	t.Helper()
	pool, err := sql.Open(db.driver, db.dsn)
	if err != nil {
		t.Fatal(err)
	}
	if db.driver == "sqlite" {
		pool.SetMaxOpenConns(1)
	}
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func (db *database) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), db.bind(query), args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (db *database) bind(query string) string {
	if db.Dialect != "postgresql" {
		return query
	}
	for i := 1; strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", i), 1)
	}
	return query
}

func (db *database) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), db.bind(query), args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// expect checks the number of effects of a message.
func (db *database) expect(t *testing.T, message string, want int) {
	t.Helper()
	if n := db.count(t, "SELECT COUNT(*) FROM effects WHERE message = ?", message); n != want {
		t.Errorf("message %q took effect %d times, want %d", message, n, want)
	}
}

// apply is the effect of a delivery.
func (db *database) apply(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
	_, err := tx.ExecContext(ctx, db.bind("INSERT INTO effects VALUES (?)"), d.MessageId)
	return err
}

func (db *database) handler(t *testing.T, f func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error) consumer.Handler {
	t.Helper()
	h, err := inbox.Handler(db.DB, db.Config, f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func delivery(id string) *consumer.Delivery {
	return &consumer.Delivery{Delivery: amqp.Delivery{MessageId: id}, Queue: "orders"}
}

// A logbook keeps log lines.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

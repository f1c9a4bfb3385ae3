package inbox_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// now is the clock of a database in seconds.
var now = map[string]string{
	"postgresql": "EXTRACT(EPOCH FROM now())::bigint",
	"mysql":      "UNIX_TIMESTAMP()",
	"sqlite":     "CAST(strftime('%s', 'now') AS INTEGER)",
}

// fill stores n ids with a prefix that expire after some seconds.
func (db *database) fill(t *testing.T, prefix string, n, after int) {
	t.Helper()
	for from := 0; from < n; from += 1000 {
		var rows []string
		var args []any
		for i := from; i < min(from+1000, n); i++ {
			rows = append(rows, fmt.Sprintf("(?, ?, %s + %d)", now[db.Dialect], after))
			args = append(args, []byte("orders"), fmt.Appendf(nil, "%s-%06d", prefix, i))
		}
		db.exec(t, "INSERT INTO amqpkit_inbox (consumer, id, expires) VALUES "+strings.Join(rows, ", "), args...)
	}
}

func (db *database) ids(t *testing.T) int {
	t.Helper()
	return db.count(t, "SELECT COUNT(*) FROM amqpkit_inbox")
}

func TestCleanRemovesExactlyTheExpiredIds(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		db.fill(t, "old", 2500, -1)
		db.fill(t, "new", 1500, 100)
		for _, want := range []int{2500, 0} {
			if removed, err := inbox.Clean(t.Context(), db.DB, db.Config); removed != want || err != nil {
				t.Errorf("removed %d, want %d: %v", removed, want, err)
			}
		}
		if n := db.count(t, "SELECT COUNT(*) FROM amqpkit_inbox WHERE expires > "+now[db.Dialect]); n != 1500 {
			t.Errorf("%d ids are left", n)
		}
	})
}

func TestIdsAreStoredForTheRetentionOfTheirConsumer(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		for retention, want := range map[time.Duration]int{0: 7 * 24 * 3600, 1500 * time.Millisecond: 2, time.Hour: 3600} {
			db.Retention = retention
			id := retention.String()
			if err := db.handler(t, db.apply)(t.Context(), delivery(id)); err != nil {
				t.Fatal(err)
			}
			if got := db.count(t, "SELECT expires - "+now[db.Dialect]+" FROM amqpkit_inbox WHERE id = ?", []byte(id)); got > want || got < want-2 {
				t.Errorf("%v: expires in %d s", retention, got)
			}
		}
		db.exec(t, "UPDATE amqpkit_inbox SET expires = 1 WHERE id = ?", []byte("1h0m0s"))
		if removed, err := inbox.Clean(t.Context(), db.DB, db.Config); removed != 1 || err != nil {
			t.Errorf("removed %d: %v", removed, err)
		}
		if err := db.handler(t, db.apply)(t.Context(), delivery("1h0m0s")); err != nil {
			t.Fatal(err)
		}
		db.expect(t, "1h0m0s", 2) // the retention has elapsed
	})
}

func TestOneOfManyProcessesRemovesExpiredIds(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		var log logbook
		db.Logger = log.logger()
		db.fill(t, "old", 3000, -1)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 10 {
			pool := db.open(t)
			wg.Go(func() {
				if err := inbox.Run(ctx, pool, db.Config); err != nil {
					t.Error(err)
				}
			})
		}
		kit.WaitFor(t, func() bool { return log.String() != "" })
		cancel()
		wg.Wait()
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `msg="inbox: removed expired ids" messages=3000`) {
			t.Errorf("logged\n%s", text)
		}
		db.fill(t, "old", 1, -1)
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := inbox.Run(ctx, db.DB, db.Config); err != nil || db.ids(t) != 1 {
			t.Errorf("a second pass within the hour: %v", err)
		}
		// A clock that was an hour or more ahead does not stop the passes.
		db.exec(t, "UPDATE amqpkit_inbox_meta SET value = value + 100000 WHERE name = 'next_clean'")
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- inbox.Run(ctx, db.DB, db.Config) }()
		kit.WaitFor(t, func() bool { return db.ids(t) == 0 })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Handlers whose transactions are open neither wait for Clean nor delay it, also if their ids are next to the expired ones.
func TestCleanAndOpenTransactionsDoNotWaitForEachOther(t *testing.T) {
	for _, dialect := range []string{"postgresql", "mysql"} { // SQLite has one writer
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, dialect)
			db.fill(t, "old", 1500, -1)
			cleaner := db.open(t)
			h := db.handler(t, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
				if d.MessageId == "outer" {
					ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
					defer cancel()
					if removed, err := inbox.Clean(ctx, cleaner, db.Config); removed != 1500 || err != nil {
						t.Errorf("removed %d: %v", removed, err)
					}
				}
				return db.apply(ctx, tx, d)
			})
			if err := h(t.Context(), delivery("outer")); err != nil {
				t.Fatal(err)
			}
			db.expect(t, "outer", 1)
		})
	}
}

// A recorder is a connector that records the statements on the table of ids.
type recorder struct {
	driver.Connector
	mu    sync.Mutex
	calls []call
}

type call struct {
	query string
	args  []any
}

func (r *recorder) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := r.Connector.Connect(ctx)
	return &recordedConn{c, r}, err
}

func (r *recorder) record(query string, args []driver.NamedValue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := call{query: query}
	for _, a := range args {
		c.args = append(c.args, a.Value)
	}
	r.calls = append(r.calls, c)
}

type recordedConn struct {
	driver.Conn
	to *recorder
}

func (c *recordedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c *recordedConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	var err error
	v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value)
	return err
}

func (c *recordedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

func (c *recordedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err != driver.ErrSkip {
		c.to.record(query, args)
	}
	return result, err
}

func (c *recordedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
	if err != driver.ErrSkip {
		c.to.record(query, args)
	}
	return rows, err
}

func (db *database) record(t *testing.T) *recorder {
	t.Helper()
	dsn := db.dsn
	if db.Dialect == "mysql" {
		dsn += "?interpolateParams=true" // without prepared statements, which are not recorded
	}
	d := db.Driver()
	r := &recorder{Connector: dsnConnector{d, dsn}}
	if ctx, ok := d.(driver.DriverContext); ok {
		var err error
		if r.Connector, err = ctx.OpenConnector(dsn); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

type dsnConnector struct {
	of  driver.Driver
	dsn string
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.of.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.of }

// plan returns the plan of a statement, and the part of it that shows a scan of the table of ids.
func (db *database) plan(t *testing.T, tx *sql.Tx, c call) (plan string, scans bool) {
	t.Helper()
	explain := map[string]string{"postgresql": "EXPLAIN ", "mysql": "EXPLAIN ", "sqlite": "EXPLAIN QUERY PLAN "}[db.Dialect]
	rows, err := tx.QueryContext(t.Context(), explain+c.query, c.args...)
	if err != nil {
		t.Fatalf("%s: %v", c.query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		targets := make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for i, v := range values {
			if v.Valid {
				line = append(line, columns[i]+"="+v.String)
			}
		}
		lines = append(lines, strings.Join(line, " "))
	}
	plan = strings.Join(lines, "\n")
	full := map[string]string{
		"postgresql": `Seq Scan on amqpkit_inbox\b|Sort\b`,
		"mysql":      `table=(amqpkit_inbox|i) (partitions=\S+ )?type=(ALL|index)|filesort`,
		"sqlite":     `SCAN amqpkit_inbox\b|TEMP B-TREE`,
	}[db.Dialect]
	return plan, regexp.MustCompile(full).MatchString(plan) && !strings.Contains(c.query, "INSERT")
}

func TestNoStatementScansTheTable(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		db.fill(t, "old", 2000, -1)
		db.fill(t, "new", 8000, 100)
		switch db.Dialect {
		case "postgresql":
			db.exec(t, "ANALYZE amqpkit_inbox")
		case "mysql":
			db.exec(t, "ANALYZE TABLE amqpkit_inbox")
		}
		r := db.record(t)
		recorded := *db
		recorded.DB = sql.OpenDB(r)
		recorded.SetMaxOpenConns(1)
		t.Cleanup(func() { _ = recorded.Close() })
		_ = db.Close() // SQLite has one writer

		if err := recorded.handler(t, recorded.apply)(t.Context(), delivery("a")); err != nil {
			t.Fatal(err)
		}
		if errs := recorded.batch(t, 2, nil).handle(t.Context(), deliveries("b", "new-000001")...); errs[0] != nil || errs[1] != nil {
			t.Fatal(errs)
		}
		if removed, err := inbox.Clean(t.Context(), recorded.DB, db.Config); removed != 2000 || err != nil {
			t.Fatalf("removed %d: %v", removed, err)
		}
		calls := r.calls
		recorded.fill(t, "old", 2000, -1)
		tx, err := recorded.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		seen := map[string]bool{}
		for _, c := range calls {
			if seen[c.query] || !strings.Contains(c.query, "amqpkit_inbox") || strings.Contains(c.query, "SAVEPOINT") || len(c.args) > 10 {
				continue
			}
			seen[c.query] = true
			plan, scans := db.plan(t, tx, c)
			t.Logf("%s\n%s", c.query, plan)
			if scans {
				t.Errorf("scans the table: %s\n%s", c.query, plan)
			}
		}
		if len(seen) < 4 {
			t.Errorf("%d statements seen", len(seen))
		}
	})
}

func TestTheLongestRetentionDoesNotOverflow(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		db.Retention = math.MaxInt64
		for range 2 {
			if err := db.handler(t, db.apply)(t.Context(), delivery("forever")); err != nil {
				t.Fatal(err)
			}
			if removed, err := inbox.Clean(t.Context(), db.DB, db.Config); removed != 0 || err != nil {
				t.Errorf("removed %d: %v", removed, err)
			}
		}
		db.expect(t, "forever", 1)
	})
}

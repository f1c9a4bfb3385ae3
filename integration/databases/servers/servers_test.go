package servers

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds are the servers that keep data.
var kinds = map[string]func(context.Context) (*Server, error){
	"PostgreSQL": StartPostgres,
	"MariaDB":    StartMariaDB,
}

// private starts a server of the package, regardless of the environment.
func private(t *testing.T, start func(context.Context) (*Server, error)) *Server {
	t.Helper()
	t.Setenv(PostgresVar, "")
	t.Setenv(MariaDBVar, "")
	s, err := start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestCommittedRowsSurviveAKill(t *testing.T) {
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			s := private(t, start)
			dsn, db := database(t, s)
			execute(t, db, "CREATE TABLE orders (id BIGINT PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (2)"); err != nil {
				t.Fatal(err)
			}

			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			expectNoProcess(t, s)
			if err := db.PingContext(t.Context()); err == nil {
				t.Error("a killed server answered")
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}

			if got := ids(t, open(t, s, dsn)); got != "1" {
				t.Errorf("ids = %s after the restart, want only the committed row", got)
			}
		})
	}
}

func TestRestartOfARunningServerKeepsDataAndAddress(t *testing.T) {
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			s := private(t, start)
			dsn, db := database(t, s)
			execute(t, db, "CREATE TABLE orders (id BIGINT PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
			before := s.DSN()
			if len(processesIn(t, s.folder.path)) == 0 {
				t.Error("no process found, so that expectNoProcess cannot fail")
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := ids(t, open(t, s, dsn)); got != "1" || s.DSN() != before {
				t.Errorf("ids = %s, DSN changed: %v", got, s.DSN() != before)
			}
		})
	}
}

func TestStopLeavesNoProcessAndNoFolder(t *testing.T) {
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			s := private(t, start)
			_, db := database(t, s)
			execute(t, db, "CREATE TABLE orders (id BIGINT PRIMARY KEY)")
			folder := s.folder.path
			for range 2 { // the second call does nothing
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
			}
			expectNoProcess(t, s)
			if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Stat(%s) = %v, want no folder", folder, err)
			}
		})
	}
}

func TestPgBouncerPoolsTransactions(t *testing.T) {
	postgres := private(t, StartPostgres)
	s := private(t, func(ctx context.Context) (*Server, error) { return StartPgBouncer(ctx, postgres) })
	dsn, db := database(t, s)
	execute(t, db, "CREATE TABLE orders (id BIGINT PRIMARY KEY)")
	if _, err := db.ExecContext(t.Context(), "INSERT INTO orders VALUES ($1)", 1); err != nil {
		t.Fatal(err)
	}
	// Two clients share one server connection, which only pool_mode=transaction does.
	other := open(t, s, dsn)
	var first, second int
	for db, pid := range map[*sql.DB]*int{db: &first, other: &second} {
		if err := db.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(pid); err != nil {
			t.Fatal(err)
		}
	}
	if first != second {
		t.Errorf("backends %d and %d, want one for both clients", first, second)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, other); got != "1" {
		t.Errorf("ids = %s after the restart of PgBouncer, want 1", got)
	}
}

func TestServerFromTheEnvironmentIsSharedAndNotTouched(t *testing.T) {
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			owner := private(t, start)
			variable, dsn, _ := strings.Cut(owner.Env(), "=")
			t.Setenv(variable, dsn)
			s, err := start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s.Owned() || s.DSN() != owner.DSN() || s.Version() != owner.Version() || !strings.HasSuffix(s.String(), " from "+variable) {
				t.Errorf("Owned = %v, String = %q, want the server from %s", s.Owned(), s, variable)
			}
			created, db := database(t, s)
			execute(t, db, "CREATE TABLE orders (id BIGINT PRIMARY KEY)")
			for what, err := range map[string]error{"Kill": s.Kill(), "Shutdown": s.Shutdown(), "Restart": s.Restart(t.Context())} {
				if !errors.Is(err, ErrNotOwned) {
					t.Errorf("%s = %v, want ErrNotOwned", what, err)
				}
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := open(t, owner, owner.DSN()).PingContext(t.Context()); err != nil {
				t.Errorf("after Stop: %v, want a running server", err)
			}
			if err := open(t, owner, created).PingContext(t.Context()); err == nil {
				t.Error("Stop did not remove the database")
			}
		})
	}
}

func TestAnUnreachableServerFromTheEnvironmentIsAnErrorWithoutThePassword(t *testing.T) {
	t.Setenv(PostgresVar, "postgres://me:secret@127.0.0.1:1/postgres")
	t.Setenv(MariaDBVar, "me:secret@tcp(127.0.0.1:1)/")
	for name, start := range kinds {
		_, err := start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "AMQPKIT_") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want an error that names the variable", name, err)
		}
	}
}

func TestSQLiteFileIsUsableAndRemoved(t *testing.T) {
	path, remove, err := SQLiteFile()
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, db, "CREATE TABLE orders (id INTEGER PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
	if got := ids(t, db); got != "1" {
		t.Errorf("ids = %s, want 1", got)
	}
	if err := errors.Join(db.Close(), remove()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat = %v, want no folder", err)
	}
}

// database creates a database on s and opens it.
func database(t *testing.T, s *Server) (dsn string, db *sql.DB) {
	t.Helper()
	dsn, err := s.NewDatabase(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return dsn, open(t, s, dsn)
}

func open(t *testing.T, s *Server, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(s.Driver(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// ids returns the ids in the table orders.
func ids(t *testing.T, db *sql.DB) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT id FROM orders ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(id))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// expectNoProcess fails if a process of the server runs. Their working directories are in its folder.
func expectNoProcess(t *testing.T, s *Server) {
	t.Helper()
	for _, process := range processesIn(t, s.folder.path) {
		t.Errorf("still running: %s", process)
	}
}

func processesIn(t *testing.T, folder string) []string {
	t.Helper()
	var found []string
	paths, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if cwd, err := os.Readlink(path); err == nil && strings.HasPrefix(cwd, folder) {
			command, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			found = append(found, string(bytes.ReplaceAll(command, []byte{0}, []byte(" "))))
		}
	}
	return found
}

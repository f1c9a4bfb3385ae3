package outbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
)

// A starting database refuses the first connection.
type starting struct{ attempts int }

var errStarting = errors.New("the database system is starting up")

func (s *starting) Connect(context.Context) (driver.Conn, error) {
	if s.attempts++; s.attempts == 1 {
		return nil, errStarting
	}
	return idle{}, nil
}

func (s *starting) Driver() driver.Driver { return nil }

// idle is a connection to a database without tables.
type idle struct{}

var errNoTable = errors.New("no such table")

func (idle) Prepare(string) (driver.Stmt, error) { return nil, errNoTable }
func (idle) Close() error                        { return nil }
func (idle) Begin() (driver.Tx, error)           { return nil, errNoTable }

func TestAStartingDatabaseIsNotMistakenForOneWithoutTables(t *testing.T) {
	o, err := New(Config{Dialect: "postgresql"})
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(&starting{})
	defer db.Close()
	var missing *SchemaError
	if err := o.checkSchema(t.Context(), db); !errors.Is(err, errStarting) || errors.As(err, &missing) {
		t.Errorf("checkSchema = %v while the database starts, want its error", err)
	}
	if err := o.checkSchema(t.Context(), db); !errors.Is(err, errNoTable) || !errors.As(err, &missing) {
		t.Errorf("checkSchema = %v without tables, want a *SchemaError", err)
	}
}

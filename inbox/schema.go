package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Schema returns the SQL statements that create the tables of cfg, each followed by a semicolon, for migration tools.
// They may be executed repeatedly. The error joins a *amqperr.FieldError for each invalid field.
func Schema(cfg Config) (string, error) {
	x, err := open(nil, cfg)
	if err != nil {
		return "", err
	}
	return strings.Join(x.sql.create, ";\n") + ";\n", nil
}

// Create creates the tables of cfg unless they exist. Any number of processes may call it at once, for example at every
// start; with SQLite, set busy_timeout. If the tables exist, it only reads the version of their schema, which needs no
// permission to create tables, and returns a *SchemaError if this release cannot use it.
func Create(ctx context.Context, db *sql.DB, cfg Config) error {
	x, err := open(db, cfg, missing(db == nil, "db"))
	if err != nil {
		return err
	}
	found, err := x.version(ctx)
	if err != nil { // most likely a table is missing
		if err := x.table.Create(ctx, db, x.sql.create); err != nil {
			return fmt.Errorf("inbox: create the tables of %s: %w", x.table, err)
		}
		if found, err = x.version(ctx); err != nil {
			return fmt.Errorf("inbox: read the version of %s: %w", x.table, err)
		}
	}
	if found != schemaVersion {
		return &SchemaError{Table: x.table.String(), Version: found, Expected: schemaVersion}
	}
	return nil
}

func (x *inbox) version(ctx context.Context) (v int, err error) {
	return v, x.db.QueryRowContext(ctx, x.sql.version).Scan(&v)
}

// A SchemaError reports that the tables have another version of the schema than this release of amqpkit uses.
type SchemaError struct {
	Table    string // the quoted name
	Version  int    // the version of the tables
	Expected int    // the version that this release uses
}

func (e *SchemaError) Error() string {
	fix := "upgrade the table as the changelog of amqpkit describes"
	if e.Version > e.Expected {
		fix = "update this program to the release of amqpkit that upgraded the table"
	}
	return fmt.Sprintf("inbox: table %s has version %d of the schema, not %d; %s", e.Table, e.Version, e.Expected, fix)
}

// Permanent returns true: trying again does not help.
func (e *SchemaError) Permanent() bool { return true }

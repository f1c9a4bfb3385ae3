package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// schemaVersion is the version of the tables that this package creates and uses.
const schemaVersion = 1

// A SchemaError reports that the tables of an outbox are missing, or were created by another version of the package.
type SchemaError struct {
	Table    string
	Version  int   // the version of the tables; zero if they do not exist
	Expected int   // the version that this package uses
	Err      error // the failed query; nil if the tables exist
}

func (e *SchemaError) Error() string {
	if e.Version == 0 {
		return fmt.Sprintf("outbox: no table %s with its companions; call Outbox.Create, or apply Outbox.Schema with your migration tool: %v", e.Table, e.Err)
	}
	return fmt.Sprintf("outbox: table %s has schema version %d, but this program needs %d; update the older one, see docs/consistency.md",
		e.Table, e.Version, e.Expected)
}

func (e *SchemaError) Unwrap() error { return e.Err }

// Permanent returns true: trying again does not help.
func (e *SchemaError) Permanent() bool { return true }

// Schema returns the statements that create the tables, each followed by a semicolon and a newline, for migration
// tools. They do nothing to tables that exist.
func (o *Outbox) Schema() string {
	return strings.Join(o.statements(), ";\n") + ";\n"
}

func (o *Outbox) statements() []string {
	names := o.dialect.names()
	statements := o.dialect.schema()
	shard := -1
	rows := join(make([]struct{}, shards), func(struct{}) string { shard++; return fmt.Sprintf("('%s', '', 0)", shardLease(shard)) })
	return append(
		statements,
		fmt.Sprintf("INSERT INTO %s (name, holder, expires_at) VALUES %s%s", names.leases, rows, o.dialect.keep()),
		fmt.Sprintf("INSERT INTO %s (name, value) VALUES ('schema', %d)%s", names.meta, schemaVersion, o.dialect.keep()),
	)
}

// Create creates the tables if they do not exist. It is safe to call from all processes at their start. It returns a
// *[SchemaError] if the tables exist in another version.
func (o *Outbox) Create(ctx context.Context, db *sql.DB) error {
	if err := o.table.Create(ctx, db, o.statements()); err != nil {
		return fmt.Errorf("outbox: create tables: %w", err)
	}
	return o.checkSchema(ctx, db)
}

// checkSchema returns a *SchemaError if the tables are missing or have another version. A failed query counts as
// missing tables only if its connection still works: a database that is starting refuses connections, and may accept
// the next one.
func (o *Outbox) checkSchema(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("outbox: read schema version: %w", err)
	}
	defer conn.Close()
	var version int
	err = conn.QueryRowContext(ctx, "SELECT value FROM "+o.dialect.names().meta.String()+" WHERE name = 'schema'").Scan(&version)
	switch {
	case err == nil && version == schemaVersion:
		return nil
	case err == nil:
		return &SchemaError{Table: o.cfg.Table, Version: version, Expected: schemaVersion}
	case ctx.Err() != nil || conn.PingContext(ctx) != nil:
		return fmt.Errorf("outbox: read schema version: %w", err)
	case errors.Is(err, sql.ErrNoRows):
		err = errors.New("the schema version is missing")
	}
	return &SchemaError{Table: o.cfg.Table, Expected: schemaVersion, Err: err}
}

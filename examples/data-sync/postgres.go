package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// postgresVar holds the DSN of the server for -postgres.
const postgresVar = "AMQPKIT_POSTGRES"

const noPostgres = `-postgres needs a server: set ` + postgresVar + ` to the DSN of a user that may create databases, for example
  ` + postgresVar + `=postgres://postgres:secret@localhost/ go -C examples/data-sync run . -postgres
or, with Debian's package postgresql installed, start a temporary one:
  go -C integration/databases run ./cmd/postgres go -C ../../examples/data-sync run . -postgres`

// createPostgres creates the databases data_sync_orders and data_sync_billing. It replaces the ones of an earlier run.
func createPostgres(ctx context.Context) (remove func() error, err error) {
	server := os.Getenv(postgresVar)
	if server == "" {
		return nil, errors.New(noPostgres)
	}
	admin, err := sql.Open("pgx", server)
	if err != nil {
		return nil, err
	}
	databases := map[string]string{ordersVar: "data_sync_orders", billingVar: "data_sync_billing"}
	drop := func(ctx context.Context) (err error) {
		for _, name := range databases {
			_, e := admin.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
			err = errors.Join(err, e)
		}
		return err
	}
	if err := drop(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("server of %s: %w", postgresVar, err), admin.Close())
	}
	for variable, name := range databases {
		if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
			return nil, errors.Join(err, admin.Close())
		}
		if err := os.Setenv(variable, withDatabase(server, name)); err != nil {
			return nil, errors.Join(err, admin.Close())
		}
	}
	return func() error { return errors.Join(drop(context.WithoutCancel(ctx)), admin.Close()) }, nil
}

// withDatabase returns the DSN of another database on the same server.
func withDatabase(dsn, name string) string {
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return dsn + " dbname=" + name
	}
	u.Path = "/" + name
	return u.String()
}

// Package sqltrace reports the statements that pass through a database/sql pool.
package sqltrace

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"
)

// A Statement was executed. The duration of a query includes the reading of its rows.
type Statement struct {
	Query string
	Args  []any
	Took  time.Duration
}

// Open opens a database like sql.Open. done is called after each statement, from any goroutine. Statements that the caller
// prepares, and BEGIN and COMMIT, are not reported. The driver "mysql" prepares statements with arguments: their duration is
// not measured.
func Open(driverName, dsn string, done func(Statement)) (*sql.DB, error) {
	db, err := sql.Open(driverName, dsn)
	if err != nil {
		return nil, err
	}
	c := connector{driver: db.Driver(), dsn: dsn, done: done}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

type connector struct {
	driver driver.Driver
	dsn    string
	done   func(Statement)
}

func (c connector) Driver() driver.Driver { return c.driver }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	var inner driver.Conn
	var err error
	if d, ok := c.driver.(driver.DriverContext); ok {
		var opener driver.Connector
		if opener, err = d.OpenConnector(c.dsn); err == nil {
			inner, err = opener.Connect(ctx)
		}
	} else {
		inner, err = c.driver.Open(c.dsn)
	}
	if err != nil {
		return nil, err
	}
	full, ok := inner.(fullConn)
	if !ok {
		return nil, errors.Join(errors.New("sqltrace: the driver lacks optional methods"), inner.Close())
	}
	return &conn{full, c.done}, nil
}

// A fullConn is a connection of each of the drivers in use.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnPrepareContext
	driver.Pinger
	driver.SessionResetter
}

type conn struct {
	fullConn
	done func(Statement)
}

func (c *conn) report(query string, args []driver.NamedValue, began time.Time) {
	s := Statement{Query: query, Took: time.Since(began)}
	for _, a := range args {
		s.Args = append(s.Args, a.Value)
	}
	c.done(s)
}

func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *conn) IsValid() bool {
	v, ok := c.fullConn.(driver.Validator)
	return !ok || v.IsValid()
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	began := time.Now()
	result, err := c.fullConn.ExecContext(ctx, query, args)
	c.report(query, args, began)
	return result, err
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	began := time.Now()
	result, err := c.fullConn.QueryContext(ctx, query, args)
	if err != nil {
		c.report(query, args, began)
		return nil, err
	}
	return &rows{result, func() { c.report(query, args, began) }}, nil
}

type rows struct {
	driver.Rows
	closed func()
}

func (r *rows) Close() error {
	err := r.Rows.Close()
	if r.closed != nil {
		r.closed()
		r.closed = nil
	}
	return err
}

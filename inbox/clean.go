package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	interval   = time.Hour // between the passes of Run, of all processes
	cleanChunk = 1000      // ids removed by one statement
)

// Clean removes the ids whose retention has elapsed, of all consumers that use the table, and returns their number. Each
// statement removes up to 1,000 ids by an index, so that handlers are not delayed. After an error it returns the number
// of ids removed before. Use Run in services, and Clean in scheduled jobs.
func Clean(ctx context.Context, db *sql.DB, cfg Config) (removed int, err error) {
	x, err := open(db, cfg, missing(db == nil, "db"))
	if err != nil {
		return 0, err
	}
	return x.clean(ctx)
}

// clean removes ids in the order of their time. It passes the time of the last removed id to the next statement, which
// would otherwise read the entries of all removed ids in the index again while an old transaction keeps them visible.
func (x *inbox) clean(ctx context.Context) (removed int, err error) {
	for from := int64(0); ; {
		var n int
		var last int64
		if err := x.db.QueryRowContext(ctx, x.sql.expire, from, cleanChunk).Scan(&n, &last); err != nil {
			return removed, fmt.Errorf("inbox: select the expired ids: %w", err)
		}
		if n == 0 {
			return removed, nil
		}
		result, err := x.db.ExecContext(ctx, x.sql.remove, from, n)
		if err != nil {
			return removed, fmt.Errorf("inbox: remove the expired ids: %w", err)
		}
		affected, err := result.RowsAffected()
		if err != nil {
			return removed, err
		}
		removed += int(affected)
		if n < cleanChunk {
			return removed, nil
		}
		from = last
	}
}

// Run removes the ids whose retention has elapsed about once an hour, until ctx ends. Call it in every process that uses
// the table: a row in the database decides which process removes ids, so that any number of processes make one pass in an
// hour. Errors of the database are logged, and Run continues. It returns nil after the end of ctx, or an error that joins
// a *amqperr.FieldError for each invalid field. Without Run or Clean the table grows.
func Run(ctx context.Context, db *sql.DB, cfg Config) error {
	x, err := open(db, cfg, missing(db == nil, "db"))
	if err != nil {
		return err
	}
	for {
		if err := x.pass(ctx); err != nil && ctx.Err() == nil {
			x.Logger.LogAttrs(ctx, slog.LevelWarn, "inbox: expired ids were not removed", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval/2 + rand.N(interval/2)):
		}
	}
}

// pass removes expired ids, unless a process has started to do so within the interval.
func (x *inbox) pass(ctx context.Context) error {
	result, err := x.db.ExecContext(ctx, x.sql.claim)
	if err != nil {
		return fmt.Errorf("inbox: select the process that removes expired ids: %w", err)
	}
	if claimed, err := result.RowsAffected(); err != nil || claimed == 0 {
		return err
	}
	start := time.Now()
	removed, err := x.clean(ctx)
	if removed > 0 {
		x.Logger.LogAttrs(ctx, slog.LevelInfo, "inbox: removed expired ids", slog.Int("messages", removed), slog.Duration("took", time.Since(start)))
	}
	return err
}

package inbox_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amqpkit/amqpkit/inbox"
)

// fakeDB is a database with the row that decides which process removes ids. It counts the passes.
type fakeDB struct {
	mu     sync.Mutex
	next   time.Time // of the next pass
	passes []time.Time
	fail   bool
}

func (f *fakeDB) Connect(context.Context) (driver.Conn, error) { return f, nil }
func (f *fakeDB) Driver() driver.Driver                        { return nil }
func (f *fakeDB) Prepare(string) (driver.Stmt, error)          { return nil, errors.ErrUnsupported }
func (f *fakeDB) Begin() (driver.Tx, error)                    { return nil, errors.ErrUnsupported }
func (f *fakeDB) Close() error                                 { return nil }

func (f *fakeDB) ExecContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail {
		return nil, errors.New("unreachable")
	}
	if !strings.HasPrefix(query, "UPDATE") || time.Now().Before(f.next) {
		return driver.RowsAffected(0), nil
	}
	f.next = time.Now().Add(time.Hour)
	f.passes = append(f.passes, time.Now())
	return driver.RowsAffected(1), nil
}

func (f *fakeDB) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return nil, errors.New("the passes are only counted")
}

func TestAHundredProcessesMakeOnePassInAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeDB{}
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		var wg sync.WaitGroup
		for range 100 {
			db := sql.OpenDB(f)
			defer db.Close()
			wg.Go(func() {
				if err := inbox.Run(ctx, db, inbox.Config{Dialect: "sqlite", Logger: slog.New(slog.DiscardHandler)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(f.passes); n < 20 || n > 24 {
			t.Errorf("%d passes in 24 hours", n)
		}
		slices.SortFunc(f.passes, time.Time.Compare)
		for i, at := range f.passes[1:] {
			if d := at.Sub(f.passes[i]); d < time.Hour || d > 2*time.Hour {
				t.Errorf("a pass after %v", d)
			}
		}
	})
}

func TestRunContinuesAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeDB{fail: true}
		db := sql.OpenDB(f)
		defer db.Close()
		var log strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- inbox.Run(ctx, db, inbox.Config{Dialect: "sqlite", Logger: slog.New(slog.NewTextHandler(&log, nil))})
		}()
		time.Sleep(5 * time.Hour)
		f.mu.Lock()
		f.fail = false
		f.mu.Unlock()
		time.Sleep(time.Hour)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(f.passes) != 1 || !strings.Contains(log.String(), `level=WARN msg="inbox: expired ids were not removed" error="inbox: select the process that removes expired ids: unreachable"`) {
			t.Errorf("%d passes; logged\n%s", len(f.passes), &log)
		}
	})
}

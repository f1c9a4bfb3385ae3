package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/integration/databases/servers"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestADuplicateIsAcknowledgedWithoutCallingTheHandler(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		var log logbook
		db.Logger = log.logger()
		calls := 0
		h := db.handler(t, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
			calls++
			return db.apply(ctx, tx, d)
		})
		for range 3 {
			if err := h(t.Context(), delivery("a")); err != nil {
				t.Fatal(err)
			}
		}
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
		db.expect(t, "a", 1)
		if n := strings.Count(log.String(), `level=DEBUG msg="inbox: duplicate skipped" queue=orders message_id=a`); n != 2 {
			t.Errorf("logged\n%s", &log)
		}
	})
}

func TestAFailedHandlerIsRolledBackAndItsMessageIsNoDuplicate(t *testing.T) {
	failure := errors.New("failure")
	for name, fail := range map[string]func() error{
		"error":   func() error { return failure },
		"Reject":  func() error { return consumer.Reject(failure) },
		"Requeue": func() error { return consumer.Requeue(time.Second, failure) },
		"panic":   func() error { panic(failure) },
		"Goexit":  func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, db *database) {
				var result, recovered any = "Goexit", nil
				var returned error
				broken := db.handler(t, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
					if err := db.apply(ctx, tx, d); err != nil {
						return err
					}
					returned = fail()
					return returned
				})
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { recovered = recover() }()
					result = broken(t.Context(), delivery("a"))
				}()
				<-done
				switch name {
				case "panic":
					if recovered != failure {
						t.Errorf("recovered %v", recovered)
					}
				case "Goexit":
				default:
					if result != returned {
						t.Errorf("returned %v, want %v unchanged", result, returned)
					}
				}
				if n := db.Stats().InUse; n != 0 {
					t.Fatalf("%d connections in use", n)
				}
				db.expect(t, "a", 0)
				if err := db.handler(t, db.apply)(t.Context(), delivery("a")); err != nil {
					t.Fatal(err)
				}
				db.expect(t, "a", 1)
			})
		})
	}
}

func TestConsumersWithDifferentNamesEachGetAMessage(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		other := delivery("a")
		other.Queue = "billing"
		named := *db
		named.Consumer = "audit"
		for range 2 {
			for _, err := range []error{
				db.handler(t, db.apply)(t.Context(), delivery("a")), // under the name orders
				db.handler(t, db.apply)(t.Context(), other),         // under the name billing
				named.handler(t, db.apply)(t.Context(), delivery("a")),
				named.handler(t, db.apply)(t.Context(), other), // a duplicate: the same consumer
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		db.expect(t, "a", 3)
	})
}

func TestIdsAreComparedByteByByte(t *testing.T) {
	long := strings.Repeat("x", 255)
	ids := []string{
		"a", "A", "a ", " a", "a\x00", "a\x00b", "ä", "Ä", "a\u0308", "a\xff", "a\xfe", "\xff", "ａ", "'", `\`, `\x61`, "?", "$1",
		long, long + "x", long + "y", strings.Repeat("ä", 10_000), strings.Repeat("ä", 10_001),
	}
	onEach(t, func(t *testing.T, db *database) {
		var id string
		db.ID = func(*consumer.Delivery) string { return id }
		h := db.handler(t, db.apply)
		for range 2 {
			for _, id = range ids {
				if err := h(t.Context(), delivery("a")); err != nil {
					t.Fatalf("%.30q: %v", id, err)
				}
			}
		}
		db.expect(t, "a", len(ids))
	})
}

// waitUntilBlocked waits until a transaction waits for another one. SQLite does not show that.
func (db *database) waitUntilBlocked(t *testing.T) {
	t.Helper()
	query := "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE 'INSERT IGNORE%'"
	switch db.Dialect {
	case "sqlite":
		return
	case "postgresql":
		query = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
	}
	kit.WaitFor(t, func() bool { return db.count(t, query) > 0 })
}

func TestASecondDeliveryWaitsForTheTransactionOfTheFirst(t *testing.T) {
	for name, outcome := range map[string]error{"committed": nil, "rolled back": errors.New("failed")} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, db *database) {
				started, release := make(chan struct{}), make(chan struct{})
				first := db.handler(t, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
					close(started)
					<-release
					if outcome != nil {
						return outcome
					}
					return db.apply(ctx, tx, d)
				})
				elsewhere := *db
				elsewhere.DB = db.open(t) // as in another process
				second := elsewhere.handler(t, db.apply)

				results := make(chan error, 2)
				go func() { results <- first(t.Context(), delivery("a")) }()
				<-started
				go func() { results <- second(t.Context(), delivery("a")) }()
				db.waitUntilBlocked(t)
				close(release)
				if err := errors.Join(<-results, <-results); (err == nil) != (outcome == nil) {
					t.Errorf("results: %v", err)
				}
				db.expect(t, "a", 1)
			})
		})
	}
}

// Many deliveries of the same messages, some of which fail, have one effect each in the end.
func TestConcurrentDeliveriesHaveOneEffect(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		const messages, workers = 40, 6
		failure := errors.New("failure")
		var wg sync.WaitGroup
		for w := range workers {
			pool := *db
			if w%2 == 1 {
				pool.DB = db.open(t)
			}
			h := pool.handler(t, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
				if err := db.apply(ctx, tx, d); err != nil || rand.N(4) == 0 {
					return errors.Join(err, failure)
				}
				return nil
			})
			wg.Go(func() {
				for i := range messages {
					for h(t.Context(), delivery(strconv.Itoa(i))) != nil {
						if t.Context().Err() != nil {
							return
						}
					}
				}
			})
		}
		wg.Wait()
		for i := range messages {
			db.expect(t, strconv.Itoa(i), 1)
		}
	})
}

func TestAHandlerThatEndsItsTransactionIsReported(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		for id, end := range map[string]func(*sql.Tx) error{"commit": (*sql.Tx).Commit, "rollback": (*sql.Tx).Rollback} {
			h := db.handler(t, func(_ context.Context, tx *sql.Tx, _ *consumer.Delivery) error { return end(tx) })
			if err := h(t.Context(), delivery(id)); err == nil || !strings.Contains(err.Error(), "the handler committed or rolled back the transaction") {
				t.Errorf("%s: %v", id, err)
			}
		}
	})
}

// PostgreSQL answers the commit of a failed transaction with a rollback.
func TestATransactionThatTheDatabaseRolledBackIsNoSuccess(t *testing.T) {
	db := newDatabase(t, "postgresql")
	h := db.handler(t, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
		if err := db.apply(ctx, tx, d); err != nil {
			return err
		}
		_, _ = tx.ExecContext(ctx, "SELECT 1/0") // the handler ignores the error
		return nil
	})
	if err := h(t.Context(), delivery("a")); err == nil {
		t.Error("acknowledged")
	}
	db.expect(t, "a", 0)
}

func TestTheEndOfCtxRollsBack(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		ctx, cancel := context.WithCancel(t.Context())
		h := db.handler(t, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
			defer cancel()
			return db.apply(ctx, tx, d)
		})
		if err := h(ctx, delivery("a")); !errors.Is(err, context.Canceled) {
			t.Errorf("result %v", err)
		}
		if err := h(ctx, delivery("a")); !errors.Is(err, context.Canceled) {
			t.Errorf("result without a transaction %v", err)
		}
		db.expect(t, "a", 0)
	})
}

func TestMessagesWithoutAnIdAreRejectedWithoutATransaction(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		h := db.handler(t, db.apply)
		_ = db.Close()
		var rejected *consumer.RejectError
		if err := h(t.Context(), delivery("")); !errors.As(err, &rejected) {
			t.Errorf("result %v", err)
		}
	})
}

func TestAnUnreachableDatabaseFailsTheDelivery(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		h := db.handler(t, db.apply)
		_ = db.Close()
		if err := h(t.Context(), delivery("a")); err == nil || !strings.HasPrefix(err.Error(), "inbox: begin a transaction: ") {
			t.Errorf("result %v", err)
		}
	})
}

func TestAnInboxWorksInASchema(t *testing.T) {
	db := newDatabase(t, "postgresql")
	db.exec(t, "CREATE SCHEMA app")
	db.Table = "app.Order"
	if err := inbox.Create(t.Context(), db.DB, db.Config); err != nil {
		t.Fatal(err)
	}
	h := db.handler(t, db.apply)
	if err := errors.Join(h(t.Context(), delivery("a")), h(t.Context(), delivery("a"))); err != nil {
		t.Fatal(err)
	}
	if n := db.count(t, `SELECT COUNT(*) FROM app."Order"`); n != 1 {
		t.Errorf("%d ids", n)
	}
}

// PgBouncer in transaction mode gives each transaction another session.
func TestAnInboxWorksBehindPgBouncer(t *testing.T) {
	bouncer, err := servers.StartPgBouncer(t.Context(), dbkit.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bouncer.Stop(); err != nil {
			t.Error(err)
		}
	}()
	db := databaseOn(t, "postgresql", bouncer)
	for range 2 {
		if errs := db.batch(t, 3, nil).handle(t.Context(), deliveries("a", "b", "c")...); errors.Join(errs...) != nil {
			t.Fatal(errs)
		}
		if err := db.handler(t, db.apply)(t.Context(), delivery("d")); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		db.expect(t, id, 1)
	}
	db.exec(t, "UPDATE amqpkit_inbox SET expires = 1")
	if removed, err := inbox.Clean(t.Context(), db.DB, db.Config); removed != 4 || err != nil {
		t.Errorf("removed %d: %v", removed, err)
	}
	_ = db.Close() // before the bouncer
}

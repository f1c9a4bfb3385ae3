package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/outbox"
)

func TestCommittedMessagesArePublishedAndDeleted(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		sent := outbox.Message{Key: "orders", Publishing: amqp.Publishing{
			Body: []byte{0, 1, 255}, ContentType: "application/octet-stream", MessageId: "id-1", Priority: 3, DeliveryMode: amqp.Persistent,
			Headers: amqp.Table{"n": int32(-5), "t": time.Unix(1_700_000_000, 0).UTC(), "b": []byte{0}, "nul": "a\x00b"},
		}}
		db.add(t, sent)
		db.awaitStats(t, 0, 0, 0)
		got := s.broker.Messages("orders")
		if len(got) != 1 {
			t.Fatalf("%d messages in the queue, want 1", len(got))
		}
		m := got[0]
		if string(m.Body) != string(sent.Publishing.Body) || m.ContentType != "application/octet-stream" || m.MessageID != "id-1" {
			t.Errorf("message = %+v", m)
		}
	})
}

func TestRolledBackMessagesAreNeverPublished(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		failed := errors.New("business error")
		err := db.Transact(t.Context(), db.DB, func(tx *sql.Tx) error {
			if err := db.Add(t.Context(), tx, message("orders", "k", "phantom")); err != nil {
				return err
			}
			return failed
		})
		if err != failed {
			t.Fatalf("Transact = %v, want the error of the function", err)
		}
		db.add(t, message("orders", "k", "real"))
		db.awaitStats(t, 0, 0, 0)
		if got := s.bodies("orders"); !slices.Equal(got, []string{"real"}) {
			t.Fatalf("published %q, want only the committed message", got)
		}
	})
}

func TestMessagesOfAKeyArePublishedInOrder(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		const keys, each = 20, 30
		for i := range each {
			var batch []outbox.Message
			for k := range keys {
				batch = append(batch, message("orders", fmt.Sprint("key ", k), fmt.Sprintf("%d:%d", k, i)))
			}
			db.add(t, batch...)
		}
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		db.awaitStats(t, 0, 0, 0)
		checkOrder(t, s.bodies("orders"), keys, each)
	})
}

// checkOrder checks bodies of the form key:number.
func checkOrder(t *testing.T, bodies []string, keys, each int) {
	t.Helper()
	next := make([]int, keys)
	for _, body := range bodies {
		var k, i int
		if _, err := fmt.Sscanf(body, "%d:%d", &k, &i); err != nil {
			t.Fatal(err)
		}
		if i != next[k] {
			t.Fatalf("key %d: message %d instead of %d", k, i, next[k])
		}
		next[k]++
	}
	for k, n := range next {
		if n != each {
			t.Fatalf("key %d: %d messages, want %d", k, n, each)
		}
	}
}

func TestAddRefusesWhatTheProducerWouldRefuse(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		err := db.Transact(t.Context(), db.DB, func(tx *sql.Tx) error {
			err := db.Add(t.Context(), tx,
				message("orders", "", "fine"),
				outbox.Message{Key: strings.Repeat("k", 256)},
				outbox.Message{Publishing: amqp.Publishing{Expiration: "1.5"}},
				outbox.Message{OrderingKey: "a\x00b"})
			for _, field := range []string{"Key", "Expiration", "OrderingKey"} {
				if !strings.Contains(err.Error(), field) {
					t.Errorf("error does not name %s: %v", field, err)
				}
			}
			var refused *amqperr.FieldError
			if !errors.As(err, &refused) {
				t.Errorf("Add = %v, want a FieldError", err)
			}
			return db.Add(t.Context(), tx, message("orders", "", "fine")) // the transaction works
		})
		if err != nil {
			t.Fatal(err)
		}
		db.awaitStats(t, 1, 0, 0)
	})
}

func TestAFailedMessageDelaysOnlyItsKey(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		r, _ := start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		db.add(t, message("orders", "a", "a1"), message("missing", "b", "b1"), message("orders", "b", "b2"), message("orders", "c", "c1"))
		db.awaitStats(t, 2, 2, 0)
		db.add(t, message("orders", "b", "b3"), message("orders", "a", "a2"))
		db.awaitStats(t, 3, 3, 0)
		if got := s.bodies("orders"); slices.Contains(got, "b2") || slices.Contains(got, "b3") {
			t.Fatalf("published %q before b1", got)
		}
		if r.Stats().Failures == 0 {
			t.Error("Stats counts no failure")
		}
		declare(t, s, "missing")
		db.awaitStats(t, 0, 0, 0)
		if got := s.bodies("missing"); !slices.Equal(got, []string{"b1"}) {
			t.Fatalf("missing contains %q", got)
		}
		got := s.bodies("orders")
		if slices.Index(got, "b2") > slices.Index(got, "b3") {
			t.Fatalf("orders contains %q, want b2 before b3", got)
		}
		var keys int
		if err := db.QueryRow("SELECT COUNT(*) FROM amqpkit_outbox_keys").Scan(&keys); err != nil || keys != 0 {
			eventually(t, "no held keys are left", func() bool {
				return db.QueryRow("SELECT COUNT(*) FROM amqpkit_outbox_keys").Scan(&keys) == nil && keys == 0
			})
		}
	})
}

func declare(t *testing.T, s *service, queue string) {
	t.Helper()
	ac, err := s.conn.PublishConnection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAMessageIsSetAsideAfterItsAttempts(t *testing.T) {
	for _, stop := range []bool{false, true} {
		t.Run(fmt.Sprint("StopKeys=", stop), func(t *testing.T) {
			onEach(t, func(t *testing.T, db *database) {
				s := newService(t, "orders")
				start(t, db.Outbox, db.DB, s, outbox.RelayConfig{MaxAttempts: 2, StopKeys: stop})
				db.add(t, message("missing", "b", "b1"), message("orders", "b", "b2"))
				db.add(t, message("orders", "b", "b3"))
				if stop {
					db.awaitStats(t, 2, 2, 1)
				} else {
					db.awaitStats(t, 0, 0, 1)
					if got := s.bodies("orders"); !slices.Equal(got, []string{"b2", "b3"}) {
						t.Fatalf("orders contains %q", got)
					}
				}
				failed, err := db.Failed(t.Context(), db.DB, 0, 10)
				if err != nil || len(failed) != 1 {
					t.Fatalf("Failed = %v, %v; want one message", failed, err)
				}
				f := failed[0]
				if string(f.Message.Publishing.Body) != "b1" || f.Message.OrderingKey != "b" || len(f.Attempts) != 2 || !strings.Contains(f.Attempts[1].Error, "312") {
					t.Fatalf("Failed = %+v", f)
				}
				declare(t, s, "missing")
				if n, err := db.Replay(t.Context(), db.DB, f.ID); n != 1 || err != nil {
					t.Fatalf("Replay = %d, %v", n, err)
				}
				db.awaitStats(t, 0, 0, 0)
				if got := s.bodies("orders"); !slices.Equal(got, []string{"b2", "b3"}) {
					t.Fatalf("orders contains %q", got)
				}
				if got := s.bodies("missing"); !slices.Equal(got, []string{"b1"}) {
					t.Fatalf("missing contains %q", got)
				}
			})
		})
	}
}

func TestDropReleasesTheKey(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{MaxAttempts: 1, StopKeys: true})
		db.add(t, message("missing", "b", "b1"), message("orders", "b", "b2"), message("missing", "c", "c1"))
		db.awaitStats(t, 1, 1, 2)
		failed, err := db.Failed(t.Context(), db.DB, 0, 10)
		if err != nil || len(failed) != 2 {
			t.Fatalf("Failed = %v, %v; want two messages", failed, err)
		}
		if n, err := db.Drop(t.Context(), db.DB, failed[0].ID); n != 1 || err != nil {
			t.Fatalf("Drop = %d, %v", n, err)
		}
		db.awaitStats(t, 0, 0, 1)
		if got := s.bodies("orders"); !slices.Equal(got, []string{"b2"}) {
			t.Fatalf("orders contains %q", got)
		}
	})
}

func TestALateCommitIsPublished(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		if db.dialect == "sqlite" {
			t.Skip("SQLite has one writing transaction at a time")
		}
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		late, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer late.Rollback()
		if err := db.Add(t.Context(), late, message("orders", "late", "late")); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); time.Since(began) < 3*time.Second; { // several floors
			db.add(t, message("orders", "", "early"), message("orders", "", "early"))
			time.Sleep(10 * time.Millisecond)
		}
		if err := late.Commit(); err != nil {
			t.Fatal(err)
		}
		db.awaitStats(t, 0, 0, 0)
		if got := s.bodies("orders"); !slices.Contains(got, "late") {
			t.Fatal("the message that was committed last was skipped")
		}
	})
}

// TestOrderSurvivesALateCommitOfTheSameKey adds two messages of a key in transactions that follow each other. The first
// one takes its id long before it commits.
func TestOrderSurvivesALateCommitOfTheSameKey(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		if db.dialect == "sqlite" {
			t.Skip("SQLite has one writing transaction at a time")
		}
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		for i := range 20 {
			first, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Add(t.Context(), first, message("orders", "k", fmt.Sprintf("0:%d", 2*i))); err != nil {
				t.Fatal(err)
			}
			for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
				db.add(t, message("orders", "", "1:0"))
			}
			if err := first.Commit(); err != nil {
				t.Fatal(err)
			}
			db.add(t, message("orders", "k", fmt.Sprintf("0:%d", 2*i+1)))
		}
		db.awaitStats(t, 0, 0, 0)
		got := slices.DeleteFunc(s.bodies("orders"), func(s string) bool { return s == "1:0" })
		checkOrder(t, got, 1, 40)
	})
}

func TestLockKeysMakesTheOrderOfAddTheOrderOfPublishing(t *testing.T) {
	for _, dialect := range []string{"postgresql", "mysql", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := open(t, outbox.Config{Dialect: dialect, LockKeys: true})
			s := newService(t, "orders")
			start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
			// Each transaction reads the last number of the key under the lock that Add takes.
			if _, err := db.Exec("CREATE TABLE numbers (k INT PRIMARY KEY, n INT NOT NULL)"); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("INSERT INTO numbers VALUES (0, 0), (1, 0), (2, 0)"); err != nil {
				t.Fatal(err)
			}
			var writers sync.WaitGroup
			for range 6 {
				pool := db.connect(t)
				writers.Go(func() {
					for i := range 21 {
						k := i % 3
						err := db.Transact(t.Context(), pool, func(tx *sql.Tx) error {
							// An empty Add takes the lock; a message with the number follows.
							if err := db.Add(t.Context(), tx, message("orders", fmt.Sprint("key ", k), "lock")); err != nil {
								return err
							}
							var n int
							if err := tx.QueryRow(fmt.Sprint("SELECT n FROM numbers WHERE k = ", k, forUpdate(dialect))).Scan(&n); err != nil {
								return err
							}
							if _, err := tx.Exec(fmt.Sprint("UPDATE numbers SET n = n + 1 WHERE k = ", k)); err != nil {
								return err
							}
							return db.Add(t.Context(), tx, message("orders", fmt.Sprint("key ", k), fmt.Sprintf("%d:%d", k, n)))
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			writers.Wait()
			db.awaitStats(t, 0, 0, 0)
			got := slices.DeleteFunc(s.bodies("orders"), func(s string) bool { return s == "lock" })
			checkOrder(t, got, 3, 6*21/3)
		})
	}
}

func forUpdate(dialect string) string {
	if dialect == "mysql" {
		return " FOR UPDATE" // a snapshot would be older than the lock
	}
	return ""
}

func TestSeveralRelaysShareTheKeysAndKeepTheirOrder(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		const relays, keys, each = 3, 30, 40
		var all []*outbox.Relay
		for range relays {
			o, err := outbox.New(outbox.Config{Dialect: db.dialect})
			if err != nil {
				t.Fatal(err)
			}
			_, p := connectTo(t, s.broker.URL())
			r, _ := start(t, o, db.connect(t), p, outbox.RelayConfig{PollInterval: 20 * time.Millisecond, Lease: 3 * time.Second})
			all = append(all, r)
		}
		var counts []int
		eventually(t, "each relay has a part of the shards", func() bool {
			counts = shardsByHolder(t, db)
			return len(counts) == relays && slices.Min(counts) >= 4 && slices.Max(counts) <= 6
		})
		for i := range each {
			var batch []outbox.Message
			for k := range keys {
				batch = append(batch, message("orders", fmt.Sprint("key ", k), fmt.Sprintf("%d:%d", k, i)))
			}
			db.add(t, batch...)
		}
		db.awaitStats(t, 0, 0, 0)
		checkOrder(t, s.bodies("orders"), keys, each)
		for i, r := range all {
			if r.Stats().Relayed == 0 {
				t.Errorf("relay %d has published nothing", i)
			}
		}
	})
}

func shardsByHolder(t *testing.T, db *database) (counts []int) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT COUNT(*) FROM amqpkit_outbox_leases WHERE name LIKE 'shard%' AND holder <> '' GROUP BY holder")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, n)
	}
	return counts
}

func TestRunEndsWithoutLosingConfirmedMessages(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		for range 20 {
			db.add(t, slices.Repeat([]outbox.Message{message("orders", "", "x")}, 100)...)
		}
		r, stop := start(t, db.Outbox, db.DB, s, outbox.RelayConfig{BatchSize: 200})
		eventually(t, "some messages are published", func() bool { return r.Stats().Relayed > 0 })
		if err := stop(); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		stats, err := db.Outbox.Stats(t.Context(), db.DB)
		if err != nil {
			t.Fatal(err)
		}
		if published := len(s.broker.Messages("orders")); published+stats.Waiting != 2000 {
			t.Fatalf("%d published and %d waiting, want 2000 together", published, stats.Waiting)
		}
		if counts := shardsByHolder(t, db); len(counts) != 0 {
			t.Errorf("the relay has left leases: %v", counts)
		}
		if err := r.Err(); !errors.Is(err, outbox.ErrNotRunning) {
			t.Errorf("Err = %v, want ErrNotRunning", err)
		}
	})
}

func TestRunReportsMissingTables(t *testing.T) {
	for _, dialect := range []string{"postgresql", "mysql", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			db := open(t, outbox.Config{Dialect: dialect})
			o, err := outbox.New(outbox.Config{Dialect: dialect, Table: "other"})
			if err != nil {
				t.Fatal(err)
			}
			r, err := outbox.NewRelay(o, db.DB, newService(t), outbox.RelayConfig{})
			if err != nil {
				t.Fatal(err)
			}
			var missing *outbox.SchemaError
			if err := r.Run(t.Context()); !errors.As(err, &missing) || missing.Table != "other" {
				t.Fatalf("Run = %v, want a SchemaError", err)
			}
		})
	}
}

func TestCreateIsSafeFromAllInstancesAtOnce(t *testing.T) {
	for _, dialect := range []string{"postgresql", "mysql", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			db := open(t, outbox.Config{Dialect: dialect})
			o, err := outbox.New(outbox.Config{Dialect: dialect, Table: "other"})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range 8 {
				pool := db.connect(t)
				wg.Go(func() {
					if err := o.Create(context.WithoutCancel(t.Context()), pool); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

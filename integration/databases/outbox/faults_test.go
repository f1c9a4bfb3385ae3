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

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/integration/databases/servers"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

func TestANackedMessageIsNotOvertakenByItsKey(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		s.broker.NackNext(5)
		const keys, each = 4, 10
		for i := range each {
			for k := range keys {
				db.add(t, message("orders", fmt.Sprint("key ", k), fmt.Sprintf("%d:%d", k, i)))
			}
		}
		r, _ := start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		db.awaitStats(t, 0, 0, 0)
		checkOrder(t, s.bodies("orders"), keys, each)
		if n := r.Stats().Failures; n != 5 {
			t.Errorf("Stats counts %d failures, want 5", n)
		}
	})
}

func TestTheRelayResumesAfterTheBrokerWasStopped(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		r, _ := start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		db.add(t, message("orders", "k", "0:0"))
		db.awaitStats(t, 0, 0, 0)
		s.broker.Stop()
		db.add(t, message("orders", "k", "0:1"), message("orders", "k", "0:2"))
		eventually(t, "Err reports the lost connection", func() bool { return r.Err() != nil })
		if err := s.broker.Start(); err != nil {
			t.Fatal(err)
		}
		db.awaitStats(t, 0, 0, 0)
		got := s.bodies("orders")
		checkOrder(t, slices.Compact(got), 1, 3)
		eventually(t, "Err returns nil", func() bool { return r.Err() == nil })
	})
}

func TestMessagesOfUnknownOutcomeKeepTheirID(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		s.broker.HoldConfirms()
		db.add(t, message("orders", "k", "x"))
		eventually(t, "the message is stored", func() bool { return len(s.broker.Messages("orders")) == 1 })
		s.broker.DropConnections()
		s.broker.ReleaseConfirms()
		db.awaitStats(t, 0, 0, 0)
		got := s.broker.Messages("orders")
		for _, m := range got {
			if m.MessageID == "" || m.MessageID != got[0].MessageID {
				t.Fatalf("message ids %q and %q, want the same", got[0].MessageID, m.MessageID)
			}
		}
	})
}

func TestARelayWhoseLeasesWereTakenPublishesNothingMore(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{Lease: 2 * time.Second, PollInterval: 10 * time.Millisecond})
		db.add(t, message("orders", "k", "before"))
		db.awaitStats(t, 0, 0, 0)
		if _, err := db.Exec("UPDATE amqpkit_outbox_leases SET holder = 'other', expires_at = 4000000000000000 WHERE name LIKE 'shard%'"); err != nil {
			t.Fatal(err)
		}
		renewals := func() (n int64) {
			if err := db.QueryRow("SELECT MAX(expires_at) FROM amqpkit_outbox_leases WHERE name LIKE 'relay%'").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for range 2 { // after two renewals the relay has read the new holder
			last := renewals()
			eventually(t, "the relay renews its leases", func() bool { return renewals() > last })
		}
		db.add(t, message("orders", "k", "after"))
		time.Sleep(200 * time.Millisecond) // nothing happens that could be awaited
		if got := s.bodies("orders"); !slices.Equal(got, []string{"before"}) {
			t.Fatalf("published %q without a lease", got)
		}
		if _, err := db.Exec("UPDATE amqpkit_outbox_leases SET expires_at = 0 WHERE holder = 'other'"); err != nil {
			t.Fatal(err)
		}
		db.awaitStats(t, 0, 0, 0)
	})
}

// unreachable is a publisher whose messages get no outcome until their ctx ends, as on a broker that blocks. It sends to
// called first.
type unreachable struct {
	*producer.Producer
	called chan struct{}
}

func (u unreachable) PublishAsync(ctx context.Context, _, _ string, _ amqp.Publishing) (*producer.Receipt, error) {
	u.called <- struct{}{}
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", producer.ErrNotPublished, context.Cause(ctx))
}

func TestRunEndsWithinTheDrainTimeout(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t)
		db.add(t, message("orders", "a", "1"), message("orders", "b", "2"))
		called := make(chan struct{}, 2)
		r, err := outbox.NewRelay(db.Outbox, db.DB, unreachable{s.Producer, called}, outbox.RelayConfig{DrainTimeout: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		<-called
		began := time.Now()
		cancel()
		err = <-done
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("Run returned %s after the end of ctx", took)
		}
		var drain *outbox.DrainError
		if !errors.As(err, &drain) || drain.Unfinished < 1 {
			t.Errorf("Run = %v, want a DrainError", err)
		}
		db.awaitStats(t, 2, 0, 0)
	})
}

func TestRunReturnsWhenTheProducerIsClosed(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		db.add(t, message("orders", "a", "1"))
		r, err := outbox.NewRelay(db.Outbox, db.DB, s, outbox.RelayConfig{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Run(ctx); !errors.Is(err, producer.ErrClosed) {
			t.Fatalf("Run = %v, want producer.ErrClosed", err)
		}
		db.awaitStats(t, 1, 0, 0)
	})
}

func TestAnUnreadableRowIsSetAsideAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		db.add(t, message("orders", "a", "1"), message("orders", "b", "2"))
		if _, err := db.Exec("UPDATE amqpkit_outbox SET message = 'garbage' WHERE ordering_key = 'a'"); err != nil {
			t.Fatal(err)
		}
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		db.awaitStats(t, 0, 0, 1)
		failed, err := db.Failed(t.Context(), db.DB, 0, 10)
		if err != nil || len(failed) != 1 || !strings.Contains(failed[0].Attempts[0].Error, "JSON") {
			t.Fatalf("Failed = %+v, %v", failed, err)
		}
	})
}

// TestAKeyWithManyMessagesDoesNotDelayOthers adds a backlog of one key, and a message of each of many other keys behind it.
func TestAKeyWithManyMessagesDoesNotDelayOthers(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		proxy := amqptest.StartProxy(t, s.broker.URL()) // a round trip takes time, as on a network
		proxy.Delay(amqptest.FromBroker, 3*time.Millisecond)
		_, s.Producer = connectTo(t, proxy.URL())
		const backlog = 600
		var many []outbox.Message
		for i := range backlog {
			many = append(many, message("orders", "hot", fmt.Sprintf("0:%d", i)))
		}
		db.add(t, many...)
		var others []outbox.Message
		for i := range 50 {
			others = append(others, message("orders", fmt.Sprint("other ", i), "other"))
		}
		db.add(t, others...)
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		eventually(t, "all other keys are published", func() bool {
			n := 0
			for _, body := range s.bodies("orders") {
				if body == "other" {
					n++
				}
			}
			return n == 50
		})
		if n := len(s.bodies("orders")); n > backlog/2+50 {
			t.Errorf("the other keys were published after %d messages of the backlog", n-50)
		}
		db.awaitStats(t, 0, 0, 0)
		checkOrder(t, slices.DeleteFunc(s.bodies("orders"), func(s string) bool { return s == "other" }), 1, backlog)
	})
}

// counting is a publisher that records the largest number of bytes between the call and the outcome.
type counting struct {
	*producer.Producer
	mu             sync.Mutex
	inFlight, most int
}

func (c *counting) PublishAsync(ctx context.Context, exchange, key string, m amqp.Publishing) (*producer.Receipt, error) {
	c.add(len(m.Body))
	receipt, err := c.Producer.PublishAsync(ctx, exchange, key, m)
	if err != nil {
		c.add(-len(m.Body))
		return nil, err
	}
	go func() {
		<-receipt.Done()
		c.add(-len(m.Body))
	}()
	return receipt, nil
}

func (c *counting) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight += n
	c.most = max(c.most, c.inFlight)
}

func TestMemoryIsBoundedByBatchBytes(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		body := strings.Repeat("x", 256<<10)
		for range 40 {
			db.add(t, message("orders", "", body), message("orders", "", body))
		}
		db.add(t, message("orders", "", strings.Repeat("x", 3<<20))) // larger than the limit
		c := &counting{Producer: s.Producer}
		start(t, db.Outbox, db.DB, c, outbox.RelayConfig{BatchBytes: 2 << 20})
		db.awaitStats(t, 0, 0, 0)
		// Two batches, each with up to one message more for each of its eight shards.
		c.mu.Lock()
		defer c.mu.Unlock()
		if limit := 2 * (2<<20 + 8*(256<<10) + 3<<20); c.most > limit {
			t.Errorf("%d bytes in flight, want at most %d", c.most, limit)
		}
	})
}

func TestTheRelayResumesAfterACrashOfTheDatabase(t *testing.T) {
	for name, begin := range map[string]func(context.Context) (*servers.Server, error){"postgresql": servers.StartPostgres, "mysql": servers.StartMariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Stop() })
			dsn, err := server.NewDatabase(t.Context(), "crash")
			if err != nil {
				t.Fatal(err)
			}
			pool, err := sql.Open(server.Driver(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { pool.Close() })
			o, err := outbox.New(outbox.Config{Dialect: name})
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Create(t.Context(), pool); err != nil {
				t.Fatal(err)
			}
			db := &database{DB: pool, Outbox: o, dialect: name}
			s := newService(t, "orders")
			r, _ := start(t, o, pool, s, outbox.RelayConfig{Lease: 3 * time.Second})
			const keys, each = 10, 30
			for i := range each {
				for k := range keys {
					for {
						err := o.Transact(t.Context(), pool, func(tx *sql.Tx) error {
							return o.Add(t.Context(), tx, message("orders", fmt.Sprint(k), fmt.Sprintf("%d:%d", k, i)))
						})
						if err == nil {
							break
						}
						time.Sleep(20 * time.Millisecond)
					}
				}
				if i == each/2 {
					if err := server.Kill(); err != nil {
						t.Fatal(err)
					}
					eventually(t, "Err reports the database", func() bool { return r.Err() != nil })
					if err := server.Restart(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			db.awaitStats(t, 0, 0, 0)
			// A message may be published twice, and a transaction whose commit was not answered may have been repeated.
			var got []string
			for _, body := range s.bodies("orders") {
				if !slices.Contains(got, body) {
					got = append(got, body)
				}
			}
			checkOrder(t, got, keys, each)
		})
	}
}

func TestTheRelayWorksBehindPgBouncerInTransactionMode(t *testing.T) {
	bouncer, err := servers.StartPgBouncer(t.Context(), dbkit.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bouncer.Stop() })
	dsn, err := bouncer.NewDatabase(t.Context(), "bouncer")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := sql.Open(bouncer.Driver(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	o, err := outbox.New(outbox.Config{Dialect: "postgresql", LockKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	db := &database{DB: pool, Outbox: o, dialect: "postgresql"}
	s := newService(t, "orders")
	start(t, o, pool, s, outbox.RelayConfig{MaxAttempts: 1})
	const keys, each = 10, 20
	for i := range each {
		for k := range keys {
			db.add(t, message("orders", fmt.Sprint(k), fmt.Sprintf("%d:%d", k, i)))
		}
	}
	db.add(t, message("missing", "m", "set aside"))
	db.awaitStats(t, 0, 0, 1)
	checkOrder(t, s.bodies("orders"), keys, each)
	declare(t, s, "missing")
	if n, err := o.Replay(t.Context(), pool); n != 1 || err != nil {
		t.Fatalf("Replay = %d, %v", n, err)
	}
	db.awaitStats(t, 0, 0, 0)
}

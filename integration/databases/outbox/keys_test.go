package outbox_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

// TestAnOpenTransactionDoesNotDelayOtherKeys leaves a transaction open that has added a message with a held key, while the
// held messages of that key are published.
func TestAnOpenTransactionDoesNotDelayOtherKeys(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		if db.dialect == "sqlite" {
			t.Skip("SQLite has one writing transaction at a time")
		}
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		db.add(t, message("missing", "k", "k1"))
		db.awaitStats(t, 1, 1, 0)
		open, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Rollback()
		if err := db.Add(t.Context(), open, message("orders", "k", "k2")); err != nil {
			t.Fatal(err)
		}
		declare(t, s, "missing")
		eventually(t, "the held message is published", func() bool { return len(s.bodies("missing")) > 0 })
		began := time.Now()
		for i := range 32 {
			db.add(t, message("orders", fmt.Sprint("other ", i), "other"))
		}
		db.awaitStats(t, 0, 0, 0)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("messages with other keys took %s", took)
		}
		if err := open.Commit(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the message of the open transaction is published", func() bool { return slices.Contains(s.bodies("orders"), "k2") })
	})
}

func TestAKeyContinuesWhenStopKeysIsSwitchedOff(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		_, stop := start(t, db.Outbox, db.DB, s, outbox.RelayConfig{MaxAttempts: 1, StopKeys: true})
		db.add(t, message("missing", "k", "k1"), message("orders", "k", "k2"))
		db.awaitStats(t, 1, 1, 1)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{MaxAttempts: 1})
		db.add(t, message("orders", "k", "k3"))
		db.awaitStats(t, 0, 0, 1)
		if got := s.bodies("orders"); !slices.Equal(got, []string{"k2", "k3"}) {
			t.Errorf("orders contains %q", got)
		}
	})
}

func TestAMessageIDMayContainAnyBytes(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		m := message("orders", "", "x")
		m.Publishing.MessageId = "a\x00b"
		db.add(t, m)
		db.awaitStats(t, 0, 0, 0)
		if got := s.broker.Messages("orders"); len(got) != 1 || got[0].MessageID != m.Publishing.MessageId {
			t.Errorf("messages %+v", got)
		}
	})
}

// TestHeldKeysTakeTurns holds more keys with long backlogs than one batch reads, and a key behind them.
func TestHeldKeysTakeTurns(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		const keys, each = 110, 130
		for i := range keys {
			var batch []outbox.Message
			for n := range each {
				batch = append(batch, message("orders", keyWith(0, i), fmt.Sprintf("%d:%d", i, n)))
			}
			db.add(t, batch...)
		}
		db.add(t, message("orders", keyWith(0, keys), "last"))
		db.exec(t, "INSERT INTO amqpkit_outbox_keys (ordering_key, shard, retry_at) SELECT ordering_key, -1, MIN(id) FROM amqpkit_outbox GROUP BY ordering_key")
		db.exec(t, "UPDATE amqpkit_outbox SET shard = -1")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		eventually(t, "the last key is published", func() bool { return slices.Contains(s.bodies("orders"), "last") })
		if n := len(s.bodies("orders")); n > keys*each/2 {
			t.Errorf("%d messages are published before the key that was held last", n)
		}
		db.awaitStats(t, 0, 0, 0)
		checkOrder(t, slices.DeleteFunc(s.bodies("orders"), func(s string) bool { return s == "last" }), keys, each)
	})
}

func TestBatchBytesBoundsHeldMessages(t *testing.T) {
	for _, dialect := range []string{"postgresql", "mysql"} { // one after the other, because they share the memory
		db := open(t, outbox.Config{Dialect: dialect})
		s := newService(t, "orders")
		body := strings.Repeat("x", 128<<10)
		for i := range 10 {
			for range 40 {
				db.add(t, message("orders", keyWith(0, i), body))
			}
		}
		db.exec(t, "INSERT INTO amqpkit_outbox_keys (ordering_key, shard, retry_at) SELECT DISTINCT ordering_key, -1, 0 FROM amqpkit_outbox")
		db.exec(t, "UPDATE amqpkit_outbox SET shard = -1")
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		proxy := amqptest.StartProxy(t, s.broker.URL())
		proxy.Delay(amqptest.FromBroker, 200*time.Millisecond) // the first batch waits for its confirms
		_, p := connectTo(t, proxy.URL())
		_, stop := start(t, db.Outbox, db.DB, p, outbox.RelayConfig{BatchBytes: 1 << 20})
		eventually(t, "a batch is published", func() bool { return len(s.broker.Messages("orders")) > 0 })
		runtime.GC()
		runtime.ReadMemStats(&now)
		if grown := (int64(now.HeapAlloc) - int64(before.HeapAlloc)) >> 20; grown > 20 {
			t.Errorf("%s: the batch holds %d MiB", dialect, grown)
		}
		_ = stop()
	}
}

// TestReplayAndDropDoNotWaitForAnOpenTransaction sets messages aside while a transaction that has added messages is open.
func TestReplayAndDropDoNotWaitForAnOpenTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		if db.dialect == "sqlite" {
			t.Skip("SQLite has one writing transaction at a time")
		}
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{MaxAttempts: 1})
		for shard := range 3 {
			db.add(t, message("missing", keyOf(shard), "fails"))
		}
		db.awaitStats(t, 0, 0, 3)
		failed, err := db.Failed(t.Context(), db.DB, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		open, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Rollback()
		for shard := range 3 {
			if err := db.Add(t.Context(), open, message("orders", keyOf(shard), "open")); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if n, err := db.Drop(t.Context(), db.DB, failed[0].ID); n != 1 || err != nil {
			t.Errorf("Drop = %d, %v", n, err)
		}
		declare(t, s, "missing")
		if n, err := db.Replay(t.Context(), db.DB); n != 2 || err != nil {
			t.Errorf("Replay = %d, %v", n, err)
		}
		db.awaitStats(t, 0, 0, 0)
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestLongErrorsFitTheirColumn fails a message whose history is full of long errors.
func TestLongErrorsFitTheirColumn(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{})
		fails := message("missing", "k", "x")
		fails.Exchange, fails.Key = strings.Repeat("<&>", 80), strings.Repeat("<", 255)
		db.add(t, fails)
		db.awaitStats(t, 1, 1, 0)
		for attempt := 2; attempt <= 10; attempt++ {
			db.exec(t, "UPDATE amqpkit_outbox_keys SET retry_at = 0")
			eventually(t, "the next attempt is counted", func() bool {
				var n int
				return db.QueryRow("SELECT attempts FROM amqpkit_outbox").Scan(&n) == nil && n >= attempt
			})
		}
	})
}

func TestAddTakesManyLargeMessages(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		db.add(t, slices.Repeat([]outbox.Message{message("orders", "", strings.Repeat("x", 1<<20))}, 20)...)
		db.awaitStats(t, 20, 0, 0)
	})
}

// refusing is a publisher without a connection, because the broker refuses the login.
type refusing struct{ *producer.Producer }

func (refusing) PublishAsync(context.Context, string, string, amqp.Publishing) (*producer.Receipt, error) {
	return nil, fmt.Errorf("%w: %w", producer.ErrNotPublished, &amqpkit.DialError{
		Kind: amqpkit.ErrLogin, Err: &amqp.Error{Code: amqp.AccessRefused, Reason: "ACCESS_REFUSED - Login was refused", Server: true},
	})
}

func TestARefusedLoginIsNoFailureOfAMessage(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		r, _ := start(t, db.Outbox, db.DB, refusing{s.Producer}, outbox.RelayConfig{MaxAttempts: 1})
		db.add(t, message("orders", "k", "x"))
		time.Sleep(500 * time.Millisecond) // some attempts
		db.awaitStats(t, 1, 0, 0)
		if n := r.Stats().Failures; n != 0 {
			t.Errorf("Stats counts %d failures", n)
		}
	})
}

// TestRowsOfDeadRelaysAreDeleted finds the row of a relay that was killed long ago.
func TestRowsOfDeadRelaysAreDeleted(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		db.exec(t, "INSERT INTO amqpkit_outbox_leases (name, holder, expires_at) VALUES ('relay dead', 'dead', 1)")
		start(t, db.Outbox, db.DB, newService(t), outbox.RelayConfig{})
		eventually(t, "the row is deleted", func() bool {
			var n int
			return db.QueryRow("SELECT COUNT(*) FROM amqpkit_outbox_leases WHERE holder = 'dead'").Scan(&n) == nil && n == 0
		})
	})
}

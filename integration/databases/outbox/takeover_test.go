package outbox_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

// A gate is a publisher that stops at messages with certain bodies.
type gate struct {
	*producer.Producer
	entered chan string
	mu      sync.Mutex
	closed  map[string]chan struct{}
}

func newGate(p *producer.Producer) *gate {
	return &gate{Producer: p, entered: make(chan string, 10), closed: map[string]chan struct{}{}}
}

func (g *gate) shut(body string) (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := make(chan struct{})
	g.closed[body] = c
	return sync.OnceFunc(func() { close(c) })
}

func (g *gate) PublishAsync(ctx context.Context, exchange, key string, m amqp.Publishing) (*producer.Receipt, error) {
	g.mu.Lock()
	c := g.closed[string(m.Body)]
	g.mu.Unlock()
	if c != nil {
		g.entered <- string(m.Body)
		<-c
	}
	return g.Producer.PublishAsync(context.WithoutCancel(ctx), exchange, key, m)
}

func (g *gate) await(t *testing.T, body string) {
	t.Helper()
	select {
	case got := <-g.entered:
		if got != body {
			t.Fatalf("%q is published before %q", got, body)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("%q is not published", body)
	}
}

// keyOf returns an ordering key of a shard.
func keyOf(shard int) string { return keyWith(shard, 0) }

// keyWith returns the ordering key of a shard with a number from 0.
func keyWith(shard, number int) string {
	for i := 0; ; i++ {
		key := fmt.Sprint("key ", i)
		h := fnv.New32a()
		h.Write([]byte(key))
		if int(h.Sum32()%16) != shard {
			continue
		}
		if number == 0 {
			return key
		}
		number--
	}
}

func (db *database) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// awaitRenewals waits until the relay has renewed its leases twice: it has read the table in between.
func (db *database) awaitRenewals(t *testing.T) {
	t.Helper()
	renewals := func() (n int64) {
		if err := db.QueryRow("SELECT MAX(expires_at) FROM amqpkit_outbox_leases WHERE name LIKE 'relay%'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 2 {
		last := renewals()
		eventually(t, "the relay renews its leases", func() bool { return renewals() > last })
	}
}

// TestAShardThatReturnsIsReadFromItsFirstMessage commits a late message while another relay has its shard, and gives the
// shard back between two steps of the floors.
func TestAShardThatReturnsIsReadFromItsFirstMessage(t *testing.T) {
	db := open(t, outbox.Config{Dialect: "postgresql"})
	s := newService(t, "orders")
	g := newGate(s.Producer)
	late, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback()
	if err := db.Add(t.Context(), late, message("orders", keyOf(2), "0:0")); err != nil {
		t.Fatal(err)
	}
	db.add(t, message("orders", keyOf(4), "filler"))
	open1, open2 := g.shut("1"), g.shut("2")
	defer open2()
	defer open1()
	start(t, db.Outbox, db.DB, g, outbox.RelayConfig{})
	db.awaitStats(t, 0, 0, 0)
	time.Sleep(600 * time.Millisecond) // a floor is proposed, and waits for the transaction
	db.exec(t, "UPDATE amqpkit_outbox_leases SET holder = 'other', expires_at = 4000000000000000 WHERE name = 'shard 02'")
	db.awaitRenewals(t)
	db.add(t, message("orders", keyOf(4), "1"))
	g.await(t, "1")
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // so that the next batch makes a step
	db.add(t, message("orders", keyOf(6), "2"))
	open1()
	g.await(t, "2")
	time.Sleep(300 * time.Millisecond)
	db.exec(t, "UPDATE amqpkit_outbox_leases SET holder = '', expires_at = 0 WHERE name = 'shard 02'")
	db.awaitRenewals(t)
	db.add(t, message("orders", keyOf(2), "0:1"))
	open2()
	db.awaitStats(t, 0, 0, 0)
	got := slices.DeleteFunc(s.bodies("orders"), func(body string) bool { return len(body) != 3 })
	checkOrder(t, got, 1, 2)
}

// TestARelayWithoutLeasesReleasesNoKey takes the leases while a held message is in flight. The other relay has read that its
// key is held, and moves a message.
func TestARelayWithoutLeasesReleasesNoKey(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		g := newGate(s.Producer)
		start(t, db.Outbox, db.DB, g, outbox.RelayConfig{})
		db.add(t, message("missing", "k", "k1"))
		db.awaitStats(t, 1, 1, 0)
		open := g.shut("k1")
		defer open()
		declare(t, s, "missing")
		g.await(t, "k1")
		db.exec(t, "UPDATE amqpkit_outbox_leases SET holder = 'other', expires_at = 4000000000000000 WHERE name LIKE 'shard%'")
		db.awaitRenewals(t)
		db.add(t, message("orders", "k", "k2"))
		open()
		db.awaitStats(t, 1, 0, 0) // k1 is deleted
		time.Sleep(300 * time.Millisecond)
		db.exec(t, "UPDATE amqpkit_outbox SET shard = -1 - shard")
		db.exec(t, "UPDATE amqpkit_outbox_leases SET holder = '', expires_at = 0 WHERE holder = 'other'")
		db.awaitStats(t, 0, 0, 0)
	})
}

package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/outbox"
)

// TestPromise22And23TwoDatabasesAgree changes rows in one database, some in transactions that are rolled back, and applies
// the changes in another one while connections to RabbitMQ are closed. Each committed change takes effect once and in order.
func TestPromise22And23TwoDatabasesAgree(t *testing.T) {
	onEach(t, func(t *testing.T, source *database) {
		target := open(t, outbox.Config{Dialect: source.dialect})
		queue := strings.ReplaceAll(t.Name(), "/", "-")
		broker := kit.Broker(t)
		kit.DeclareQuorum(t, broker, queue)
		proxy := amqptest.StartProxy(t, broker.URL())
		conn, p := connectTo(t, proxy.URL())
		for _, db := range []*database{source, target} {
			if _, err := db.Exec("CREATE TABLE accounts (id INT NOT NULL PRIMARY KEY, version INT NOT NULL)"); err != nil {
				t.Fatal(err)
			}
		}
		cfg := inbox.Config{Dialect: source.dialect}
		if err := inbox.Create(t.Context(), target.DB, cfg); err != nil {
			t.Fatal(err)
		}
		start(t, source.Outbox, source.DB, p, outbox.RelayConfig{})

		// The handler refuses any change that is not the next one of its row.
		handler, err := inbox.Handler(target.DB, cfg, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
			var id, version int
			if _, err := fmt.Sscanf(string(d.Body), "%d:%d", &id, &version); err != nil {
				return consumer.Reject(err)
			}
			if version == 0 {
				_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO accounts VALUES (%d, 0)", id))
				return err
			}
			result, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE accounts SET version = %d WHERE id = %d AND version = %d", version, id, version-1))
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); n != 1 || err != nil {
				t.Errorf("account %d: version %d is not the next one (%v)", id, version, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		key := func(d *consumer.Delivery) string {
			id, _, _ := strings.Cut(string(d.Body), ":")
			return id
		}
		running, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- consumer.Run(running, conn, consumer.Config{Queue: queue, Workers: 4, Key: key, HasDeadLetterExchange: true}, handler)
		}()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Log("consumer:", err)
			}
		}()

		const accounts, changes = 8, 40
		versions := make([]int, accounts)
		for i := range versions {
			versions[i] = -1
		}
		for n := range accounts * changes {
			id := rand.N(accounts)
			phantom := rand.N(5) == 0
			err := source.Transact(t.Context(), source.DB, func(tx *sql.Tx) error {
				version := versions[id] + 1
				statement := fmt.Sprintf("UPDATE accounts SET version = %d WHERE id = %d", version, id)
				if version == 0 {
					statement = fmt.Sprintf("INSERT INTO accounts VALUES (%d, 0)", id)
				}
				if _, err := tx.ExecContext(t.Context(), statement); err != nil {
					return err
				}
				body := fmt.Sprintf("%d:%d", id, version)
				if phantom {
					body = fmt.Sprintf("%d:%d", id, version+1000)
				}
				if err := source.Add(t.Context(), tx, message(queue, fmt.Sprint("account ", id), body)); err != nil {
					return err
				}
				if phantom {
					return errPhantom
				}
				return nil
			})
			switch {
			case err == nil:
				versions[id]++
			case err != errPhantom:
				t.Fatal(err)
			}
			if n%60 == 30 {
				proxy.Cut()
			}
		}
		source.awaitStats(t, 0, 0, 0)
		eventually(t, "all changes are applied", func() bool {
			return slices.Equal(accountVersions(t, target, accounts), versions)
		})
	})
}

var errPhantom = errors.New("rolled back")

// accountVersions returns the version of each account, -1 for a missing one.
func accountVersions(t *testing.T, db *database, accounts int) []int {
	t.Helper()
	versions := slices.Repeat([]int{-1}, accounts)
	rows, err := db.QueryContext(t.Context(), "SELECT id, version FROM accounts")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, version int
		if err := rows.Scan(&id, &version); err != nil {
			t.Fatal(err)
		}
		versions[id] = version
	}
	return versions
}

// TestAddWithinAnInboxHandler consumes, changes and publishes in one transaction: of two deliveries of a message, and of a
// failed attempt, one effect and one message are left.
func TestAddWithinAnInboxHandler(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders", "invoices")
		if _, err := db.Exec("CREATE TABLE orders (id INT NOT NULL PRIMARY KEY)"); err != nil {
			t.Fatal(err)
		}
		cfg := inbox.Config{Dialect: db.dialect}
		if err := inbox.Create(t.Context(), db.DB, cfg); err != nil {
			t.Fatal(err)
		}
		start(t, db.Outbox, db.DB, s, outbox.RelayConfig{PollInterval: 20 * time.Millisecond})
		failed := false
		handler, err := inbox.Handler(db.DB, cfg, func(ctx context.Context, tx *sql.Tx, _ *consumer.Delivery) error {
			if _, err := tx.ExecContext(ctx, "INSERT INTO orders VALUES (17)"); err != nil {
				return err
			}
			if err := db.Add(ctx, tx, message("invoices", "order 17", "invoice")); err != nil {
				return err
			}
			if !failed {
				failed = true
				return consumer.Requeue(0, errors.New("the first attempt fails"))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Publish(t.Context(), "", "orders", amqp.Publishing{MessageId: "order 17"}); err != nil {
				t.Fatal(err)
			}
		}
		running, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- consumer.Run(running, s.conn, consumer.Config{Queue: "orders"}, handler) }()
		if err := s.broker.AwaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the queue of orders is empty", func() bool {
			q, _ := s.broker.Queue("orders")
			return q.Ready == 0 && q.Unacked == 0
		})
		db.awaitStats(t, 0, 0, 0)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		var orders int
		if err := db.QueryRow("SELECT COUNT(*) FROM orders").Scan(&orders); err != nil || orders != 1 {
			t.Errorf("%d orders, %v; want 1", orders, err)
		}
		if got := s.bodies("invoices"); !slices.Equal(got, []string{"invoice"}) {
			t.Errorf("invoices %q, want one", got)
		}
	})
}

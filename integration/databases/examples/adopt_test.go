package examples

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	_ "modernc.org/sqlite"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// The functions in this file and in pgx_test.go are the code of docs/consistency.md.

var dialect = "postgresql" // or "sqlite", or "mysql" for MariaDB and MySQL

// serveOrders is an orders service that has adopted the outbox.
func serveOrders(ctx context.Context, db *sql.DB, conn *amqpkit.Conn, serve func(context.Context, *outbox.Outbox)) error {
	box, err := outbox.New(outbox.Config{Dialect: dialect})
	if err != nil {
		return err
	}
	if err := box.Create(ctx, db); err != nil {
		return err
	}

	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	relay, err := outbox.NewRelay(box, db, p, outbox.RelayConfig{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	relayed := make(chan error, 1)
	go func() {
		defer cancel() // ends the service if the relay cannot run
		relayed <- relay.Run(ctx)
	}()

	serve(ctx, box)

	cancel()
	return errors.Join(<-relayed, p.Close(context.Background()), conn.Close(context.Background()))
}

func payOrder(ctx context.Context, db *sql.DB, box *outbox.Outbox, id int64) error {
	return box.Transact(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE orders SET status = 'paid' WHERE id = $1", id); err != nil {
			return err // rolls back
		}
		return box.Add(ctx, tx, outbox.Message{
			Exchange: "orders", Key: "order.paid", OrderingKey: fmt.Sprint("order ", id),
			Publishing: amqp.Publishing{ContentType: "application/json", Body: fmt.Appendf(nil, `{"id": %d}`, id)},
		})
	})
}

// serveBilling is a billing service that has adopted the inbox.
func serveBilling(ctx context.Context, db *sql.DB, conn *amqpkit.Conn) error {
	in := inbox.Config{Dialect: dialect}
	if err := inbox.Create(ctx, db, in); err != nil {
		return err
	}
	handler, err := inbox.Handler(db, in, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
		var order struct{ ID int64 }
		if err := json.Unmarshal(d.Body, &order); err != nil {
			return consumer.Reject(err)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO invoices (order_id) VALUES ($1)", order.ID)
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cleaned := make(chan error, 1)
	go func() { cleaned <- inbox.Run(ctx, db, in) }() // removes old ids

	err = consumer.Run(ctx, conn, consumer.Config{Queue: "billing"}, handler)

	cancel()
	return errors.Join(err, <-cleaned, conn.Close(context.Background()))
}

func openSQLite(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // all transactions, in the order in which they begin
	return db, nil
}

// repair replays the messages that were set aside, after their cause was removed.
func repair(ctx context.Context, db *sql.DB, box *outbox.Outbox) error {
	failed, err := box.Failed(ctx, db, 0, 100)
	if err != nil {
		return err
	}
	for _, f := range failed {
		fmt.Println(f.ID, f.Message.Exchange, f.Message.Key, f.Attempts[len(f.Attempts)-1].Error)
		if _, err := box.Replay(ctx, db, f.ID); err != nil { // or box.Drop
			return err
		}
	}
	return nil
}

func TestServicesThatFollowTheFiveStepsAgree(t *testing.T) {
	t.Run("postgresql", func(t *testing.T) {
		dialect = "postgresql"
		open := func(name string) *sql.DB {
			dsn, err := dbkit.Postgres(t).NewDatabase(t.Context(), name)
			kit.Must(t, err)
			db, err := sql.Open("pgx", dsn)
			kit.Must(t, err)
			return db
		}
		testFiveSteps(t, open("orders"), open("billing"))
	})
	t.Run("sqlite", func(t *testing.T) {
		dialect = "sqlite"
		open := func(name string) *sql.DB {
			db, err := openSQLite(t.TempDir() + "/" + name)
			kit.Must(t, err)
			return db
		}
		testFiveSteps(t, open("orders"), open("billing"))
	})
}

func testFiveSteps(t *testing.T, orders, billing *sql.DB) {
	t.Helper()
	t.Cleanup(func() { kit.Must(t, errors.Join(orders.Close(), billing.Close())) })
	kit.Forget(t, "billing", "orders")
	ctx, cancel := context.WithCancel(kit.Within(t, time.Minute))
	defer cancel()
	for db, table := range map[*sql.DB]string{
		orders: "CREATE TABLE orders (id INT PRIMARY KEY, status VARCHAR(10))", billing: "CREATE TABLE invoices (order_id INT PRIMARY KEY)",
	} {
		_, err := db.ExecContext(ctx, table)
		kit.Must(t, err)
	}
	_, err := orders.ExecContext(ctx, "INSERT INTO orders VALUES (1, 'new'), (2, 'new'), (3, 'new')")
	kit.Must(t, err)
	setup := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}},
		Queues:    []topology.Queue{{Name: "billing"}},
		Bindings:  []topology.Binding{{Source: "orders", Queue: "billing", Key: "#"}},
	}.Declare
	billed := make(chan error, 1)
	conn := kit.Connect(t, amqpkit.Config{Setup: setup})
	go func() { billed <- serveBilling(ctx, billing, conn) }()
	err = serveOrders(ctx, orders, kit.Connect(t, amqpkit.Config{Setup: setup}), func(ctx context.Context, box *outbox.Outbox) {
		for id := range int64(3) {
			kit.Must(t, payOrder(ctx, orders, box, id+1))
		}
		kit.WaitFor(t, func() bool {
			var invoices int
			return billing.QueryRowContext(ctx, "SELECT count(*) FROM invoices").Scan(&invoices) == nil && invoices == 3
		})
		kit.WaitFor(t, func() bool {
			stats, err := box.Stats(ctx, orders)
			return err == nil && stats == outbox.Stats{}
		})
		kit.Must(t, repair(ctx, orders, box))
	})
	cancel()
	kit.Must(t, errors.Join(err, <-billed))
}

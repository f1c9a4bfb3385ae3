package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

// An orderStore changes orders. Each change and its message are committed together.
//
// Every transaction locks the row first (UPDATE, DELETE, SELECT ... FOR UPDATE, or the INSERT of a new row) and then calls
// Add. So the transactions of one row follow each other, and the order of its messages is the order of its changes.
type orderStore struct {
	db  *database
	box *outbox.Outbox
}

func (s *orderStore) insert(ctx context.Context, o Order) error {
	return s.change(ctx, false, "INSERT INTO orders (customer, cents, status) VALUES ($1, $2, $3) RETURNING id, customer, cents, status",
		o.Customer, o.Cents, o.Status)
}

func (s *orderStore) pay(ctx context.Context, id, cents int64) error {
	return s.change(ctx, false, "UPDATE orders SET cents = cents + $2, status = 'paid' WHERE id = $1 RETURNING id, customer, cents, status", id, cents)
}

func (s *orderStore) delete(ctx context.Context, id int64) error {
	return s.change(ctx, true, "DELETE FROM orders WHERE id = $1 RETURNING id, customer, cents, status", id)
}

// change executes a statement for one row and adds the message about it. A row that does not exist is not an error.
func (s *orderStore) change(ctx context.Context, deleted bool, statement string, args ...any) error {
	return s.box.Transact(ctx, s.db.DB, func(tx *sql.Tx) error {
		c := Change{Deleted: deleted}
		err := tx.QueryRowContext(ctx, statement, args...).Scan(&c.Order.ID, &c.Order.Customer, &c.Order.Cents, &c.Order.Status)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		return s.box.Add(ctx, tx, c.message())
	})
}

// runOrders runs the orders service. It changes orders for the time of load.
func runOrders(ctx context.Context, load time.Duration) error {
	ctx, cancel := untilInputEnds(ctx)
	defer cancel()
	s, err := newService(ctx, "orders", ordersVar)
	if err != nil {
		return err
	}
	defer s.db.Close()
	store := &orderStore{s.db, s.box}
	s.topology = ordersTopology
	// A change that no queue is bound for is not needed: a later subscriber gets a snapshot. Without this setting such messages
	// would count as failed, and the relay would set them aside.
	s.producer = producer.Config{AllowUnroutable: true}
	s.consumer = consumer.Config{Queue: requestQueue}
	s.handle = store.handleRequest
	s.work = func(ctx context.Context) error {
		n, err := changeOrders(ctx, store, load)
		fmt.Printf("orders: load finished, %d changes\n", n)
		return err
	}
	fmt.Println("orders: started")
	return s.run(ctx)
}

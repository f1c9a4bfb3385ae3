package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/amqpkit/amqpkit/consumer"
)

// runBilling runs the billing service, which maintains a copy of the orders.
func runBilling(ctx context.Context) error {
	ctx, cancel := untilInputEnds(ctx)
	defer cancel()
	s, err := newService(ctx, "billing", billingVar)
	if err != nil {
		return err
	}
	defer s.db.Close()
	if err := s.requestSnapshot(ctx); err != nil {
		return err
	}
	s.topology = billingTopology
	s.consumer = consumer.Config{
		Queue: billingQueue, SingleActiveConsumer: true, Workers: 4,
		Key: func(d *consumer.Delivery) string { row, _ := d.Headers[rowHeader].(string); return row }, // order per row
	}
	s.handle = apply
	fmt.Println("billing: started")
	return s.run(ctx)
}

// requestSnapshot requests a snapshot at the first start. The request is published after the service has declared its queue.
//
// To copy everything again, for example after the queue was deleted, delete all rows of orders and snapshot_requested in one
// transaction, and start the service.
func (s *service) requestSnapshot(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS snapshot_requested (id BIGINT PRIMARY KEY)"); err != nil {
		return err
	}
	return s.box.Transact(ctx, s.db.DB, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "INSERT INTO snapshot_requested VALUES (1) ON CONFLICT DO NOTHING")
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
		fmt.Println("billing: requests a snapshot")
		return s.box.Add(ctx, tx, Request{}.message())
	})
}

// apply makes the copy of a row equal to the message. The inbox calls it once for each message.
func apply(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
	var c Change
	if err := json.Unmarshal(d.Body, &c); err != nil {
		return consumer.Reject(err)
	}
	if c.Deleted {
		_, err := tx.ExecContext(ctx, "DELETE FROM orders WHERE id = $1", c.Order.ID)
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (id, customer, cents, status) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, cents = excluded.cents, status = excluded.status`,
		c.Order.ID, c.Order.Customer, c.Order.Cents, c.Order.Status)
	return err
}

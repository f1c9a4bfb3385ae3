package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/outbox"
)

// A new subscriber gets all existing rows through the outbox, part by part, while changes continue. No change is lost, and
// none is applied out of order:
//
//  1. The subscriber binds its queue, then sends a request. So a change whose message was published before the binding was
//     committed before the request, and the snapshot contains it. The message of any other change arrives in the queue.
//  2. The snapshot locks a row, reads it, and adds its message with the ordering key of the row, all in one transaction.
//     A change of that row was committed before, and then the message contains it, or it waits for the lock, and then its
//     message comes later. So the messages of a row are in the order of its states, whether snapshot or change.
//  3. A message holds the whole row. The subscriber writes it whether it has the row or not. The messages of a row that it
//     receives are the last ones, in order, so that the row ends in its last state. A deletion of an unknown row has no effect.
//  4. The request for the next part is added in the same transaction. After a crash the snapshot continues with the part that
//     was not committed, and the inbox ignores a request that arrives twice.

// partSize is the number of rows that one transaction locks.
const partSize = 100

// handleRequest adds the messages of one part of a snapshot and the request for the next one.
func (s *orderStore) handleRequest(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
	var r Request
	if err := json.Unmarshal(d.Body, &r); err != nil {
		return consumer.Reject(err)
	}
	rows, err := tx.QueryContext(ctx, fmt.Sprint("SELECT id, customer, cents, status FROM orders WHERE id > $1 ORDER BY id LIMIT ", partSize, s.db.forUpdate()), r.After)
	if err != nil {
		return err
	}
	defer rows.Close()
	var messages []outbox.Message
	for rows.Next() {
		var c Change
		if err := rows.Scan(&c.Order.ID, &c.Order.Customer, &c.Order.Cents, &c.Order.Status); err != nil {
			return err
		}
		messages, r.After = append(messages, c.message()), c.Order.ID
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(messages) > 0 {
		messages = append(messages, r.message())
	} else {
		fmt.Println("orders: snapshot finished")
	}
	return s.box.Add(ctx, tx, messages...)
}

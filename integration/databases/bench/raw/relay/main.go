// Command relay is a hand-written relay with amqp091-go and database/sql only. The flag -how selects the usual loop (loop),
// which publishes a message, waits for its confirm and deletes it, or its pipelined version (pipelined), which publishes 100
// messages, waits for all confirms and deletes the messages with one statement. Neither keeps the order of a key when a publish
// fails.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/bench/side"
	"github.com/amqpkit/amqpkit/integration/databases/bench"
)

func main() { side.Main(run) }

type row struct {
	id             int64
	key, messageID string
	body           []byte
}

func run(ctx context.Context, t side.Task) (side.Result, error) {
	db, err := bench.Open(ctx, t)
	if err != nil {
		return side.Result{}, err
	}
	defer db.Close()
	conn, err := amqp.Dial(t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return side.Result{}, err
	}
	if err := ch.Confirm(false); err != nil {
		return side.Result{}, err
	}
	relay := oneByOne
	if t.How == "pipelined" {
		relay = pipelined
	}
	clock := side.StartWith(t)
	sent := 0
	for sent < t.Messages {
		n, err := batch(ctx, db, func(tx *sql.Tx, rows []row) error { return relay(ctx, ch, tx, rows) })
		if err != nil {
			return side.Result{}, err
		}
		if n == 0 {
			return side.Result{}, fmt.Errorf("only %d messages", sent)
		}
		sent += n
	}
	result := clock.Stop(sent)
	result.QueryTime = db.QueryTime()
	return result, nil
}

// batch calls relay with the first 100 messages, in a transaction.
func batch(ctx context.Context, db *bench.Database, relay func(*sql.Tx, []row) error) (n int, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // after Commit it does nothing
	query := "SELECT id, routing_key, message_id, body FROM loop_outbox ORDER BY id LIMIT 100"
	if db.Dialect == "postgresql" {
		query += " FOR UPDATE SKIP LOCKED"
	}
	rows, err := read(ctx, tx, query)
	if err != nil {
		return 0, err
	}
	if err := relay(tx, rows); err != nil {
		return 0, err
	}
	return len(rows), tx.Commit()
}

func read(ctx context.Context, tx *sql.Tx, query string) (list []row, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.key, &r.messageID, &r.body); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

func publish(ch *amqp.Channel, r row) (*amqp.DeferredConfirmation, error) {
	return ch.PublishWithDeferredConfirm("", r.key, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: r.messageID, Body: r.body})
}

func oneByOne(ctx context.Context, ch *amqp.Channel, tx *sql.Tx, rows []row) error {
	for _, r := range rows {
		c, err := publish(ch, r)
		if err != nil {
			return err
		}
		if !c.Wait() {
			return errors.New("not confirmed")
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM loop_outbox WHERE id = $1", r.id); err != nil {
			return err
		}
	}
	return nil
}

func pipelined(ctx context.Context, ch *amqp.Channel, tx *sql.Tx, rows []row) error {
	flight := make([]*amqp.DeferredConfirmation, len(rows))
	ids := make([]string, len(rows))
	for i, r := range rows {
		var err error
		if flight[i], err = publish(ch, r); err != nil {
			return err
		}
		ids[i] = fmt.Sprint(r.id)
	}
	for _, c := range flight {
		if !c.Wait() {
			return errors.New("not confirmed")
		}
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM loop_outbox WHERE id IN ("+strings.Join(ids, ",")+")")
	return err
}

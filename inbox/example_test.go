package inbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
)

var (
	ctx  context.Context
	db   *sql.DB             // of the driver that your program uses
	conn consumer.Connection // from amqpkit.Dial
)

// A payment changes an account once, although its message may be delivered repeatedly.
func ExampleHandler() {
	cfg := inbox.Config{Dialect: "postgresql"}
	if err := inbox.Create(ctx, db, cfg); err != nil {
		log.Fatal(err)
	}
	handler, err := inbox.Handler(db, cfg, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
		var payment struct{ Account, Amount int }
		if err := json.Unmarshal(d.Body, &payment); err != nil {
			return consumer.Reject(err)
		}
		_, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = balance - $1 WHERE id = $2", payment.Amount, payment.Account)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := inbox.Run(ctx, db, cfg); err != nil {
			log.Fatal(err)
		}
	}()
	if err := consumer.Run(ctx, conn, consumer.Config{Queue: "payments", Workers: 8}, handler); err != nil {
		log.Fatal(err)
	}
}

// A batch needs one commit for up to 100 messages.
func ExampleBatch() {
	handler, err := inbox.Batch(db, inbox.Config{Dialect: "sqlite"}, 100, 20*time.Millisecond,
		func(ctx context.Context, tx *sql.Tx, ds []*consumer.Delivery) error {
			for _, d := range ds {
				if _, err := tx.ExecContext(ctx, "INSERT INTO events (body) VALUES (?)", d.Body); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		log.Fatal(err)
	}
	if err := consumer.Run(ctx, conn, consumer.Config{Queue: "events", Workers: 200}, handler); err != nil {
		log.Fatal(err)
	}
}

// Messages from clients that set no message id are identified by a header.
func ExampleConfig() {
	cfg := inbox.Config{
		Dialect:   "mysql",
		Consumer:  "billing",
		ID:        func(d *consumer.Delivery) string { id, _ := d.Headers["order"].(string); return id },
		Retention: 30 * 24 * time.Hour,
	}
	if err := inbox.Create(ctx, db, cfg); err != nil {
		log.Fatal(err)
	}
}

func ExampleSchema() {
	schema, err := inbox.Schema(inbox.Config{Dialect: "postgresql", Table: "app.inbox"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(schema)
	// Output:
	// CREATE TABLE IF NOT EXISTS "app"."inbox" (consumer bytea NOT NULL, id bytea NOT NULL, expires bigint NOT NULL, PRIMARY KEY (consumer, id));
	// CREATE INDEX IF NOT EXISTS "inbox_expires" ON "app"."inbox" (expires);
	// CREATE TABLE IF NOT EXISTS "app"."inbox_meta" (name varchar(32) NOT NULL PRIMARY KEY, value bigint NOT NULL);
	// INSERT INTO "app"."inbox_meta" (name, value) VALUES ('next_clean', 0), ('version', 1) ON CONFLICT (name) DO NOTHING;
}

package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

// A service pays an order and announces it in one transaction. A relay publishes the announcement.
func Example() {
	ctx := context.Background()
	db, err := sql.Open("pgx", "postgres://localhost/orders") // with the driver of your choice
	if err != nil {
		log.Fatal(err)
	}
	box, err := outbox.New(outbox.Config{Dialect: "postgresql"})
	if err != nil {
		log.Fatal(err)
	}
	if err := box.Create(ctx, db); err != nil {
		log.Fatal(err)
	}

	conn, err := amqpkit.Dial(ctx, "amqp://guest:guest@localhost:5672/")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)
	relay, err := outbox.NewRelay(box, db, p, outbox.RelayConfig{})
	if err != nil {
		log.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- relay.Run(running) }()

	err = box.Transact(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE orders SET paid = true WHERE id = 17"); err != nil {
			return err
		}
		return box.Add(ctx, tx, outbox.Message{
			Exchange: "orders", Key: "order.paid", OrderingKey: "order 17",
			Publishing: amqp.Publishing{ContentType: "application/json", Body: []byte(`{"id": 17}`)},
		})
	})
	if err != nil {
		log.Fatal(err)
	}

	stop() // at the end of the program: the relay first, then the producer, then the connection
	if err := <-done; err != nil {
		log.Print(err)
	}
}

// The message that could not be published is listed with its errors, and replayed after the cause was removed.
func ExampleOutbox_Failed() {
	ctx := context.Background()
	var db *sql.DB
	var box *outbox.Outbox
	repair := func() error {
		failed, err := box.Failed(ctx, db, 0, 100)
		if err != nil {
			return err
		}
		for _, f := range failed {
			last := f.Attempts[len(f.Attempts)-1]
			fmt.Println(f.ID, f.Message.Exchange, f.Message.Key, last.Error)
			if _, err := box.Replay(ctx, db, f.ID); err != nil {
				return err
			}
		}
		return nil
	}
	_ = repair
}

// The schema for a migration tool.
func ExampleOutbox_Schema() {
	box, err := outbox.New(outbox.Config{Dialect: "sqlite", Table: "outbox"})
	if err != nil {
		log.Fatal(err)
	}
	schema := box.Schema()
	fmt.Println(schema[:len(`CREATE TABLE IF NOT EXISTS "outbox" (`)])
	// Output:
	// CREATE TABLE IF NOT EXISTS "outbox" (
}

// An invalid configuration is refused with the field and the fix.
func ExampleNew() {
	_, err := outbox.New(outbox.Config{Dialect: "postgres"})
	fmt.Println(err)
	// Output:
	// outbox: Dialect: unknown dialect "postgres"; use "postgresql", "sqlite" or "mysql" (which includes MariaDB)
}

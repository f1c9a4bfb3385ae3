// Outbox places orders in one database and writes their invoices in another one. An order and its message are committed in
// one transaction, a relay publishes the message, and a consumer with an inbox writes the invoice exactly once.
//
//	go -C examples/outbox run .
package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	_ "modernc.org/sqlite"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// An Order is a row of the orders service and the body of a message.
type Order struct {
	ID    int64  `json:"id"`
	Item  string `json:"item"`
	Price int    `json:"price"`
}

const queue = "outbox.orders"

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the invoices were not written within a minute"))
	defer cancel()

	// Two services, each with its database.
	dir, err := os.MkdirTemp("", "outbox-example-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	orders, err := open(ctx, filepath.Join(dir, "orders.db"), "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, price INT)")
	if err != nil {
		return err
	}
	defer orders.Close()
	billing, err := open(ctx, filepath.Join(dir, "billing.db"), "CREATE TABLE invoices (order_id INT PRIMARY KEY, total INT)")
	if err != nil {
		return err
	}
	defer billing.Close()

	// The tables of the outbox are in the database of the orders, the ones of the inbox in the database of the invoices.
	box, err := outbox.New(outbox.Config{Dialect: "sqlite"})
	if err != nil {
		return err
	}
	in := inbox.Config{Dialect: "sqlite", Logger: slog.New(slog.DiscardHandler)}
	if err := errors.Join(box.Create(ctx, orders), inbox.Create(ctx, billing, in)); err != nil {
		return err
	}

	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:   []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup:  topology.Queues(queue).Declare,
		Logger: slog.New(slog.DiscardHandler), // the program itself prints every step
	})
	if err != nil {
		return err
	}
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return errors.Join(err, conn.Close(context.Background()))
	}
	relay, err := outbox.NewRelay(box, orders, p, outbox.RelayConfig{})
	if err != nil {
		return errors.Join(err, conn.Close(context.Background()))
	}
	handled := make(chan string, 10)
	handler, err := inbox.Handler(billing, in, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
		var o Order
		if err := json.Unmarshal(d.Body, &o); err != nil {
			return consumer.Reject(err)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO invoices VALUES (?, ?)", o.ID, o.Price); err != nil {
			return err // rolls back, and the message is redelivered
		}
		handled <- fmt.Sprintf("billing: invoice for order %d, %d EUR", o.ID, o.Price)
		return nil // commits, then acknowledges
	})
	if err != nil {
		return errors.Join(err, conn.Close(context.Background()))
	}

	// To shut down: end every Run first, then close the producer, then the connection, then the databases.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	relaying := start(ctx, fail, relay.Run)
	consuming := start(ctx, fail, func(ctx context.Context) error {
		return consumer.Run(ctx, conn, consumer.Config{Queue: queue}, handler)
	})
	cleaning := start(ctx, fail, func(ctx context.Context) error { return inbox.Run(ctx, billing, in) }) // removes old ids
	defer func() {
		err = errors.Join(err, consuming(), relaying(), cleaning(), p.Close(context.Background()), conn.Close(context.Background()))
		if err == nil {
			fmt.Println("shut down: nothing left")
		}
	}()
	return story(ctx, box, orders, billing, p, handled)
}

// story places three orders and waits for the invoices.
func story(ctx context.Context, box *outbox.Outbox, orders, billing *sql.DB, p *producer.Producer, handled <-chan string) error {
	for _, o := range []Order{{1, "book", 12}, {2, "unicorn", 1000}, {3, "lamp", 30}} {
		if err := place(ctx, box, orders, o); err != nil {
			fmt.Printf("orders: order %d (%s) rolled back with its message: %v\n", o.ID, o.Item, err)
			continue
		}
		fmt.Printf("orders: order %d (%s) committed with its message\n", o.ID, o.Item)
	}
	for range 2 {
		if err := printNext(ctx, handled); err != nil {
			return err
		}
	}

	// A publisher that got no confirm publishes again, with the same message id. The inbox recognises it.
	duplicate := message(Order{1, "book", 12})
	if err := p.Publish(ctx, duplicate.Exchange, duplicate.Key, duplicate.Publishing); err != nil {
		return err
	}
	fmt.Println("orders: message of order 1 published again")
	if err := place(ctx, box, orders, Order{4, "chair", 50}); err != nil {
		return err
	}
	if err := printNext(ctx, handled); err != nil { // the queue is in order: the duplicate was handled before it
		return err
	}
	var invoices, total int
	if err := billing.QueryRowContext(ctx, "SELECT count(*), sum(total) FROM invoices").Scan(&invoices, &total); err != nil {
		return err
	}
	fmt.Printf("billing: %d invoices, %d EUR\n", invoices, total)
	return nil
}

// place stores an order and its message, or neither.
func place(ctx context.Context, box *outbox.Outbox, db *sql.DB, o Order) error {
	return box.Transact(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO orders VALUES (?, ?, ?)", o.ID, o.Item, o.Price); err != nil {
			return err
		}
		if err := box.Add(ctx, tx, message(o)); err != nil {
			return err
		}
		if o.Item == "unicorn" {
			return errors.New("out of stock") // rolls back both
		}
		return nil
	})
}

func message(o Order) outbox.Message {
	body, _ := json.Marshal(o) // an Order can always be encoded
	return outbox.Message{Key: queue, Publishing: amqp.Publishing{
		MessageId: fmt.Sprint("order ", o.ID, " placed"), ContentType: "application/json", Body: body,
	}}
}

// open opens an SQLite database with one connection, because SQLite has one writer at a time.
func open(ctx context.Context, path, schema string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// start runs f until its ctx ends. If f fails, it calls fail. The returned function ends f and returns the error of f.
func start(ctx context.Context, fail context.CancelCauseFunc, f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		err := f(ctx)
		if err != nil {
			fail(err)
		}
		done <- err
	}()
	return func() error {
		cancel()
		return <-done
	}
}

func printNext(ctx context.Context, lines <-chan string) error {
	select {
	case line := <-lines:
		fmt.Println(line)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

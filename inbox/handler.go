package inbox

import (
	"context"
	"database/sql"
	"log/slog"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Handler returns a consumer.Handler that calls f within a transaction of db, which also stores the id of the message,
// and commits. A message whose id is stored already is acknowledged without calling f. While another transaction that
// stored the id is open, Handler waits for it.
//
// f writes with tx and leaves commit and rollback to Handler. If f returns an error, panics or calls runtime.Goexit, the
// transaction is rolled back, and the id is not stored. The error is returned unchanged, so that consumer.Reject,
// consumer.Requeue and package retry work as usual. f must return the error of each failed statement: after some errors
// the database has rolled back everything already, and further statements would run outside of the transaction. For the
// same reason f must not use statements that commit implicitly, such as CREATE TABLE in MySQL.
//
// The other results of the Handler are:
//
//   - A message without an id is rejected with a *amqperr.FieldError.
//   - An error of the database, such as a lost connection, a deadlock or a serialization failure, is returned like an
//     error of f: the consumer holds the message and requeues it. After a failed commit the outcome is unknown. If the
//     transaction was committed, the redelivery is a duplicate.
//   - If f has committed or rolled back tx, the error says so.
//
// The transaction is bound to the handler's ctx and rolled back when that ends. Handler returns an error that joins a
// *amqperr.FieldError for each invalid field. It does not use db.
func Handler(db *sql.DB, cfg Config, f func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error) (consumer.Handler, error) {
	x, err := open(db, cfg, missing(db == nil, "db"), missing(f == nil, "f"))
	if err != nil {
		return nil, err
	}
	single := func(ctx context.Context, tx *sql.Tx, ds []*consumer.Delivery) error { return f(ctx, tx, ds[0]) }
	return func(ctx context.Context, d *consumer.Delivery) error {
		k, err := x.key(d)
		if err != nil {
			return err
		}
		return x.handle(ctx, []message{{Delivery: d, key: k}}, single)
	}, nil
}

// A message is a delivery with its key.
type message struct {
	*consumer.Delivery
	key    key
	result *error // for batch
}

// handle stores the ids of messages and calls f with the new messages, in one transaction.
func (x *inbox) handle(ctx context.Context, messages []message, f func(context.Context, *sql.Tx, []*consumer.Delivery) error) error {
	return x.transact(ctx, func(tx *sql.Tx) error {
		isNew, err := x.store(ctx, tx, messages)
		if err != nil {
			return err
		}
		var ds []*consumer.Delivery
		for _, m := range messages {
			if isNew[m.key] {
				delete(isNew, m.key) // a second delivery in messages is a duplicate
				ds = append(ds, m.Delivery)
				continue
			}
			x.Logger.LogAttrs(ctx, slog.LevelDebug, "inbox: duplicate skipped",
				slog.String("queue", m.Queue), slog.String("message_id", validate.Printable(m.key.id)))
		}
		if len(ds) == 0 {
			return nil
		}
		return f(ctx, tx, ds)
	})
}

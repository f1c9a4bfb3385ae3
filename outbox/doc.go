// Package outbox publishes messages that a database transaction has stored (transactional outbox).
//
// If the transaction that added a message commits, the message is published at least once, also if processes crash. If it
// rolls back, the message is never published. Without an outbox, a service that publishes after the commit loses the message
// if it crashes in between. A service that publishes before the commit announces a change that may be rolled back.
//
//	box, err := outbox.New(outbox.Config{Dialect: "postgresql"})
//	…
//	err = box.Create(ctx, db) // or apply box.Schema() with a migration tool
//	…
//	err = box.Transact(ctx, db, func(tx *sql.Tx) error {
//		if _, err := tx.ExecContext(ctx, "UPDATE orders SET paid = true WHERE id = $1", id); err != nil {
//			return err
//		}
//		return box.Add(ctx, tx, outbox.Message{
//			Exchange: "orders", Key: "order.paid", OrderingKey: id,
//			Publishing: amqp.Publishing{Body: body},
//		})
//	})
//
// A [Relay] publishes the messages through a Producer and deletes each after its confirm. Run one in every process of the
// service. The relays divide the work, and take over from one that has crashed:
//
//	relay, err := outbox.NewRelay(box, db, p, outbox.RelayConfig{})
//	…
//	err = relay.Run(ctx) // until ctx ends
//
// # Order
//
// Messages with the same OrderingKey are published in the order of Add if their transactions are serialised before Add. That
// is the case if each transaction, before it calls Add, locks the row that the message is about, by UPDATE or SELECT ... FOR
// UPDATE. With [Config].LockKeys, Add takes a lock. Otherwise the order may differ: the database assigns an id at Add, the
// relay publishes the committed messages in the order of their ids, and a transaction with a lower id may commit later.
//
// One message of a key is in flight at a time, because a message that is returned or nacked would otherwise be overtaken by
// the next one. So the rate of one key is about one message per round trip to the broker: 500 to 1,000 per second. Messages
// with different keys, or without one, are published concurrently.
//
// # Failures
//
// A message that is returned, nacked or refused delays only its own key. It is published again with growing pauses, and set
// aside after [RelayConfig].MaxAttempts. [Outbox.Failed] lists the messages that were set aside, with the history of their
// errors. [Outbox.Replay] publishes them again, and [Outbox.Drop] deletes them. A message whose outcome is unknown is
// published again with the same message id, so consumers may receive it twice. Package inbox recognises such a duplicate.
//
// While the database or the broker is unavailable, the relay waits, logs the cause, and continues afterwards.
//
// A relay reads and publishes messages in batches. If a queue does not confirm, for example a quorum queue without a
// majority, it delays the other messages of the same batch until the Producer's ConfirmTimeout has elapsed.
package outbox

// Package outbox publishes messages that a database transaction has stored (transactional outbox).
//
// A message is published if and only if the transaction that added it commits, at least once, across crashes of any
// process. Publishing after the commit loses the message if the process crashes in between; publishing before the commit
// announces a change that may be rolled back.
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
// service; they divide the work and replace each other:
//
//	relay, err := outbox.NewRelay(box, db, p, outbox.RelayConfig{})
//	…
//	err = relay.Run(ctx) // until ctx ends
//
// # Order
//
// Messages with the same OrderingKey are published in the order of Add if their transactions follow each other before they
// call Add. That is the case if each one first locks the row that the message is about, by UPDATE or SELECT ... FOR UPDATE,
// or with [Config].LockKeys. Otherwise they are published in the order of their ids, as far as they are visible: the database
// assigns an id at Add, and a transaction with a lower id may commit later.
//
// One message of a key is in flight at a time, because a message that is returned or nacked would otherwise be overtaken
// by the next one. So one key reaches about one message for each round trip to the broker, 500 to 1,000 in a second.
// Messages with different keys, or without one, are published concurrently.
//
// # Failures
//
// A message that is returned, nacked or refused delays only its own key. It is published again with growing pauses, and set
// aside after [RelayConfig].MaxAttempts. [Outbox.Failed] lists such messages with the history of their errors,
// [Outbox.Replay] publishes them again and [Outbox.Drop] deletes them. A message whose outcome is unknown is published
// again with the same message id, so consumers may receive it twice. Package inbox recognises it.
//
// While the database or the broker is unavailable, the relay waits, logs the cause and continues without help.
//
// A queue that does not confirm, for example a quorum queue without a majority, delays the messages of the same batch
// until the Producer's ConfirmTimeout.
package outbox

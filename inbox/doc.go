// Package inbox makes a handler take effect once for each message, although RabbitMQ may deliver a message repeatedly.
//
// The id of the message and the handler's own rows are written in one transaction of the handler's database. A message
// whose id is stored is acknowledged without calling the handler. A crash before the commit leaves neither the id nor the
// rows, and a crash after it leaves both.
//
//	cfg := inbox.Config{Dialect: "postgresql"}
//	if err := inbox.Create(ctx, db, cfg); err != nil {
//		return err
//	}
//	handler, err := inbox.Handler(db, cfg, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
//		_, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = balance - 10 WHERE id = 1")
//		return err
//	})
//	…
//	go inbox.Run(ctx, db, cfg) // removes old ids
//	return consumer.Run(ctx, conn, consumer.Config{Queue: "payments", Workers: 8}, handler)
//
// # The promise
//
// For each consumer (Config.Consumer, by default the name of the queue) and message id, the rows written with the handler's tx are
// committed once. That holds even if the message is published, redelivered or replayed repeatedly, if several processes handle it at
// the same time, and if a process, the broker or the database crashes at any point. It holds for Config.Retention after the
// transaction began. Effects outside of the transaction, such as an e-mail or a call of another service, may repeat. To publish a
// message from the handler, add it to an outbox (package outbox) with the same tx.
//
// The id identifies the message. An id must not be used for two different messages, because the second one would be
// skipped. A publisher that publishes again after an unknown outcome must use the same id.
//
// # Databases
//
// The package uses database/sql. It supports PostgreSQL, SQLite from 3.35, MariaDB, and MySQL with InnoDB. Each worker of the
// consumer uses one database connection while it handles a message. [Batch] handles many messages in one transaction, and is several
// times as fast. A transaction has the default isolation level of its database connection. A deadlock, a lock timeout or a
// serialization failure is an error of the delivery: the consumer holds the message for a second and requeues it, which RabbitMQ
// counts as a failure. If such errors are frequent, use Config.Key of the consumer, so that messages that write the same rows are
// handled in order, one at a time.
//
// SQLite has one writer. Set busy_timeout, so that processes wait for each other, and db.SetMaxOpenConns(1), so that workers wait in
// the order in which they came. The handler must then use tx only: a query on db would wait indefinitely.
//
// # With other packages
//
// The middleware of package retry wraps the handler: a rolled-back transaction is a failed attempt, and the next attempt
// is not a duplicate. A parked message may be replayed, also after it was handled. With consumer.Config.Key, messages of a
// key take effect in their order.
//
// # The table
//
// The table has the columns consumer and id, both as bytes, and expires, in seconds since 1970. In PostgreSQL, convert_from(id,
// 'UTF8') shows an id. If you delete the row of a message, the message takes effect again at its next delivery.
package inbox

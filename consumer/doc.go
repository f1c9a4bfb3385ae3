// Package consumer runs a handler for each message of a queue and settles the delivery by the handler's result.
//
// A [Consumer] consumes until its ctx ends. It subscribes again after the connection was lost, after the channel was closed, and
// after the queue was deleted and declared again. The handler's result settles the message:
//
//	nil                 acknowledged
//	Reject(err)         rejected: dead-lettered, or dropped if the queue has no dead-letter exchange
//	Requeue(d, err)     requeued after d, not counted as a failure
//	RejectRequeue(err)  requeued at once, counted as a failure
//	any other error     held for 1 s (doubled at each failure, up to 30 s), then requeued, counted as a failure
//	a panic             logged with its stack, then treated like any other error
//
// RabbitMQ before 4.3 counts every requeue as a failure: see "Delivery counts of RabbitMQ".
//
// A quorum queue does not redeliver a failing message indefinitely. Without a dead-letter exchange it drops the message
// after 21 failed deliveries (RabbitMQ's default limit of 20 redeliveries), which take about eight minutes. The only
// trace is a warning in the log that names the message. To keep such messages, give the queue a dead-letter exchange or
// use package retry. A classic queue has no limit: it redelivers the message until it succeeds.
//
// A delivery is settled at most once, after its handler has returned, on the channel that delivered it. If that channel was
// closed, nothing is sent and RabbitMQ redelivers the message. Handlers may therefore receive a message twice and must tolerate
// it. Detect duplicates by the message id. The redelivered flag is not sufficient. RabbitMQ may set it although no handler has
// received the message, and does not set it on the second copy of a message that was published twice.
//
//	conn, err := amqpkit.Dial(ctx, "amqp://guest:guest@localhost:5672/")
//	…
//	c, err := consumer.New(conn, consumer.Config{Queue: "orders", Workers: 8},
//		consumer.JSON(func(ctx context.Context, o Order) error {
//			return ship(ctx, o)
//		}))
//	…
//	err = c.Run(ctx) // until ctx ends; then it lets the handlers finish
//
// # Order and concurrency
//
// Several workers handle deliveries concurrently, so the order of the queue is kept only with one worker. With
// [Config.Key], deliveries with the same key are handled in order, and deliveries with different keys concurrently.
// [Batch] passes many deliveries to one function call, for example for a bulk insert. The function returns a result for each.
//
// # Deliveries on a channel
//
// Some frameworks receive from a Go channel and acknowledge later. A Handler can serve them. It sends each delivery to that Go
// channel, together with a second Go channel for the outcome, and returns the outcome that it receives. See the example Handler
// (Channel). Config.Workers is then the maximum number of deliveries without an outcome. The handler must also return when its
// ctx ends. Otherwise a shutdown waits for the receiver until Config.DrainTimeout has elapsed.
//
// # Ownership of deliveries
//
// Body and Headers are allocated for each delivery and never reused. Before it returns, the handler may change their contents.
// Middleware sees the changes: package retry copies them into the next attempt. After the handler has returned, its code may
// keep reading them but must not change them, because middleware or the log may still read them. The Delivery of a handler that
// continues after the end of its ctx stays valid. RabbitMQ redelivers the message as another Delivery with its own Body and
// Headers.
//
// # Delivery counts of RabbitMQ
//
// A quorum queue counts failed deliveries in the header x-delivery-count. It drops or dead-letters a message that failed more
// often than the delivery limit, which is 20 by default. A consumer cannot read the limit of the queue. Therefore Run assumes
// the default limit. From the 21st failed delivery on, it logs a warning with the message id, unless
// [Config.HasDeadLetterExchange] is set.
//
// RabbitMQ 4.3 counts each delivery that Run requeues after an ordinary error, and each delivery that was unacknowledged when
// its connection was lost. It does not count a [Requeue]. It does not count unhandled deliveries that Run requeues at shutdown
// either, except in an ordered shutdown (see [Config.SingleActiveConsumer]). RabbitMQ before 4.3 counts every requeue. Classic
// queues do not count. On a stream, settling a delivery only frees its place in the prefetch; no message is requeued.
//
// # Untrusted messages
//
// [Config.MaxBodySize] rejects large bodies. [Decompress] rejects bodies that decompress to a large size or cannot be
// decoded. [Timeout] limits the time that a handler spends on a message. A message with headers that amqp091-go
// cannot read is rejected and logged: see [UnreadableError]. A message that RabbitMQ itself cannot deliver closes the
// connection on each delivery: see [PoisonError].
package consumer

// Package consumer runs a handler over a queue and settles each delivery by the handler's
// result.
//
// A [Consumer] keeps consuming until its ctx ends, whatever happens in between: a lost
// connection, a closed channel, a queue that is deleted and declared again. What the handler
// returns decides what becomes of the message:
//
//	nil                 acknowledged: the message is done
//	Reject(err)         rejected: to the dead-letter exchange, or dropped without one
//	Requeue(d, err)     requeued after d, not counted as a failure
//	RejectRequeue(err)  requeued at once, counted as a failure
//	any other error     held for 1 s, doubling to 30 s, then requeued, counted as a failure
//	a panic             logged with its stack, then as any other error
//
// A failing message is not tried indefinitely. A quorum queue without a dead-letter exchange drops it after 21
// failed deliveries, RabbitMQ's default, which take about eight minutes. A warning in the log names the message, and
// there is no other trace of it. Give the queue a dead-letter exchange, or use package retry, to keep such messages. A queue with
// another delivery limit drops it earlier or later, and a classic queue never does.
//
// A delivery is settled once at most, after its handler returned, on the channel it came
// from. If that channel is gone by then nothing is sent, and RabbitMQ delivers the message
// again: handlers see some messages twice, with Redelivered set, and must tolerate it.
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
// # Order, and many at once
//
// Workers take deliveries as they come, so their order is that of the queue only with one worker.
// With [Config.Key] the deliveries of a key are handled one after another, and those of other keys
// beside them: what happens to one order stays in its order. [Batch] has a function work on many
// deliveries at once, as databases like it, with an outcome for each.
//
// # Deliveries on a channel
//
// Some frameworks receive from a Go channel and acknowledge later. A Handler serves them if it sends each delivery
// to the channel together with a place for its outcome, and returns that outcome: see the example
// Handler (Channel). Config.Workers then is how many deliveries may be out at once. The handler must also return when its ctx
// ends, or Run waits for the receiver until the end of Config.DrainTimeout.
//
// # Ownership of deliveries
//
// Body and Headers are allocated for each delivery and never reused. The handler may change them before it returns,
// which changes what middleware around it sees: package retry copies them into the next attempt. After it returned nil
// or an error, it may keep reading them and must not change them, because middleware or the log may still read
// them. A handler that ignores the end of its ctx keeps its delivery; RabbitMQ delivers the message again, as
// another Delivery with its own Body and Headers.
//
// # What RabbitMQ counts
//
// A quorum queue counts failed deliveries in the header x-delivery-count and drops (or
// dead-letters) a message that failed more often than its delivery limit, 20 by default and unlimited before
// RabbitMQ 4.0. Without [Config.HasDeadLetterExchange] each failed delivery is logged as a warning, with the message id, from
// the last one on that the default limit allows: a consumer cannot ask for the queue's own limit. On
// RabbitMQ 4.3 "any other error" counts and a delivery that was in hand when its connection
// died; [Requeue] does not, nor does what Run gives back unhandled when it ends, unless order matters
// (see [Config.SingleActiveConsumer]). Before 4.3 every return counts. Classic queues count nothing. On a stream settling only moves the
// window of unsettled deliveries: nothing is put back.
//
// # What may come in
//
// A publisher can send what no handler should meet. [Config.MaxBodySize] rejects bodies that
// are too large, [Decompress] those that would become so or do not decode, and [Timeout] bounds the
// time that a handler spends on one. A message with headers that amqp091-go cannot read is rejected and
// logged: see [UnreadableError]. A message that RabbitMQ itself cannot deliver costs the connection each
// time: see [PoisonError].
package consumer

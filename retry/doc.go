// Package retry retries failed messages after a delay, and parks the ones that keep failing.
// No message is lost on the way: the original is acknowledged only after RabbitMQ has confirmed the copy.
//
//	plan, err := retry.New(retry.Config{
//		Queue:  "orders",
//		Policy: retry.Schedule(10*time.Second, time.Minute),
//		Rules: []retry.Rule{
//			retry.OnType[*ValidationError](retry.Park),
//			retry.OnError(ErrOutOfStock, retry.Schedule(time.Hour)),
//		},
//	})
//	…
//	conn, err := amqpkit.Open(amqpkit.Config{Setup: plan.Declare, …}) // declares the wait queues
//	p, err := producer.New(conn, producer.Config{})
//	c, err := consumer.New(conn, consumer.Config{
//		Queue:      "orders",
//		Middleware: []consumer.Middleware{plan.Middleware(p)},
//	}, handler)
//
// The handler's error selects the action: amqperr.Permanent, [After], consumer.Reject, an error with a [Rule], or any other error,
// for which the policy applies. [Plan.Middleware] has the list. Package parking reads and replays parked messages.
//
// # Waiting
//
// Each delay has a wait queue, such as orders.wait.10s, with the delay as its TTL. All its messages wait equally long, so that no message
// waits behind another one. After the delay RabbitMQ moves them back to the source queue, by at-least-once
// dead-lettering, which keeps a message until the source queue has confirmed it:
//
//	orders ── handler fails: publish, confirm, ack ──▶ orders.wait.10s ── after 10s ──▶ orders
//	       ── last attempt fails: the same ──────────▶ orders.parked
//
// Messages are published to the wait queue and not dead-lettered to it: RabbitMQ drops a message that returns to a queue by expiry
// alone. A publish resets RabbitMQ's counts, so attempts are counted in a header of the message. The worker itself waits for delays up to
// Config.MaxInProcessDelay.
//
// # Attempts
//
// To retry or park a message, the middleware moves it: it publishes a copy to the next queue, waits for the confirm, and acknowledges the
// original. No copy is attempted more often than the policy allows. If the connection is lost, or RabbitMQ does not answer a move, RabbitMQ
// redelivers the message and the same attempt runs again. A loss between the confirm and the ack, or a confirm that takes longer than
// Config.MoveTimeout, leaves two copies with the same message id. See [MoveError] for moves that fail.
//
// Every end of a handler is an attempt: an error, a panic, and runtime.Goexit (t.FailNow). A handler that does not return
// keeps its worker, until RabbitMQ delivers its message again after the consumer timeout.
package retry

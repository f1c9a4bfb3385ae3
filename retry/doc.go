// Package retry retries failed messages after a delay. It moves a message that keeps failing to a parking queue: it parks the message.
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
// The handler's error selects the next step. amqperr.Permanent and consumer.Reject park the message, [After] sets the delay, and a
// [Rule] selects an [Action] for certain errors. Config.Policy applies to all other errors. [Plan.Middleware] has the list. Package
// parking reads and replays parked messages.
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
// Messages are published to the wait queue and not dead-lettered to it, because RabbitMQ drops a dead letter that returns to its queue
// only through expiry. A publish resets RabbitMQ's counts, so attempts are counted in a header of the message.
// For delays up to Config.MaxInProcessDelay, zero by default, the worker itself waits.
//
// # Attempts
//
// To retry or park a message, the middleware moves it: it publishes a copy to the next queue, waits for the confirm, and acknowledges the
// original. No copy is attempted more often than the policy allows. If the connection is lost, or RabbitMQ does not answer a move, RabbitMQ
// redelivers the message and the same attempt runs again. A loss between the confirm and the ack, or a confirm that takes longer than
// Config.MoveTimeout, leaves two copies with the same message id. See [MoveError] for moves that fail.
//
// Each call of a handler is an attempt, whether it ends by an error, a panic or runtime.Goexit (t.FailNow). A handler that does not
// return keeps its worker. RabbitMQ delivers its message again after the consumer timeout.
package retry

// Package retry retries failed messages after a delay. It parks a message that keeps failing: it moves the message to a parking queue. No
// message is lost on the way: the original is acknowledged only after RabbitMQ has confirmed the copy.
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
//	middleware := []consumer.Middleware{plan.Middleware(p)}
//	c, err := consumer.New(conn, consumer.Config{Queue: "orders", Middleware: middleware}, handler)
//
// The handler's error selects the next step. amqperr.Permanent and consumer.Reject park the message, [After] sets the delay, and a [Rule]
// selects an [Action] for certain errors. Config.Policy applies to all other errors. Package parking replays parked messages.
//
// # Waiting
//
// The queue of the plan is its source queue. Each delay has a wait queue, such as orders.wait.10s, with the delay as its TTL. All messages
// of a wait queue wait equally long, so that no message waits behind another one. After the delay RabbitMQ dead-letters them back to the
// source queue. At-least-once dead-lettering keeps a message until the source queue has confirmed it:
//
//	orders ── handler fails: publish, confirm, ack ──▶ orders.wait.10s ── after 10s ──▶ orders
//	       ── last attempt fails: the same ──────────▶ orders.parked
//
// Messages are published to the wait queue, not dead-lettered to it. RabbitMQ drops a message that returns to a queue by expiry alone. A
// publish interrupts such a cycle and resets RabbitMQ's counts, so a header of the message counts the attempts. With
// Config.MaxInProcessDelay, a message waits for shorter delays in the worker.
//
// # Attempts
//
// To pass a message to a wait queue or to the parking queue, the middleware moves it: it publishes a copy to that queue, waits for the
// confirm, and acknowledges the original. The attempts of a message are numbered, and their number never exceeds the policy. If the
// connection is lost, or RabbitMQ does not answer a move, RabbitMQ redelivers the message and the attempt is repeated under the same
// number. So the handler may be called more often than the policy's MaxAttempts. A loss between the confirm and the ack, or a confirm that
// takes longer than Config.MoveTimeout, leaves two copies with the same message id. See [MoveError] for moves that fail.
//
// An attempt fails if the handler returns an error, panics or calls runtime.Goexit. A consumer.Requeue does not count as an attempt. If a
// handler does not return, RabbitMQ redelivers its message after the consumer timeout, 30 minutes by default.
package retry

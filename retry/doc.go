// Package retry turns a failed message into a later attempt, and the last failure into a parked message.
// No message is lost on the way: the original is acknowledged only after RabbitMQ has confirmed the copy.
//
//	plan, err := retry.New("orders", retry.Schedule(10*time.Second, time.Minute),
//		retry.OnType[*ValidationError](retry.Park),
//		retry.OnError(ErrOutOfStock, retry.Schedule(time.Hour)))
//	…
//	conn, err := amqpkit.Open(amqpkit.Config{Setup: plan.Declare, …}) // declares the wait queues
//	p, err := producer.New(conn, producer.Config{})
//	c, err := consumer.New(conn, consumer.Config{
//		Queue:      "orders",
//		Middleware: []consumer.Middleware{plan.Middleware(p)},
//	}, handler)
//
// A handler chooses by its error: [Permanent], [After], consumer.Reject, or any error for which there is a [Rule] or
// the policy; see [Plan.Middleware].
//
// # Waiting
//
// Each delay has its own queue, orders.wait.10s, whose TTL is the delay. Every message in it waits equally long, so none waits behind
// another one; with a TTL for each message, short delays would wait for long ones. After the delay RabbitMQ moves
// messages back to the source queue, by dead-lettering at least once:
//
//	orders ── handler fails: publish, confirm, ack ──▶ orders.wait.10s ── after 10s ──▶ orders
//	       ── it was the last attempt: the same ─────▶ orders.parked
//
// A message is published to its wait queue, and not rejected, because RabbitMQ drops messages that cycle by expiry only; a publish
// does not count as part of a cycle. For the same reason RabbitMQ's own counts (x-death, x-delivery-count) start again in each
// round. Attempts are counted in a header of the message, x-amqpkit-attempts.
//
// Delays up to Config.MaxInProcessDelay are waited out by the worker that handles the message. That avoids the moves, and blocks the
// message's key if the consumer orders by key.
//
// Jitter makes messages that failed together return at different times. A queue has one delay, so jitter is a random choice of
// four queues, evenly spread between the shortest delay and the full one: with full jitter of 8 s these are
// 2, 4, 6 and 8 s. In the process it is any time in between.
//
// # Attempts
//
// Attempts never exceed the policy for a copy of a message. An attempt is repeated after a redelivery (a lost connection, an
// unanswered move). There can be another copy each time the connection is lost between the confirm and the ack, and if a confirm takes
// longer than Config.MoveTimeout. All copies have the same message id.
//
// Every end of a handler is an attempt: an error, a panic, and runtime.Goexit (t.FailNow). A handler that does not return is not an
// attempt. It keeps its worker, and RabbitMQ delivers its message again after the consumer timeout or the end of
// consumer.Config.DrainTimeout.
//
// # What can go wrong
//
// If the wait or the parking queue is missing or full, the message goes to the tail of the source queue, with the rest of its
// wait in its headers, and is moved from there later. If RabbitMQ does not answer, the message stays in its queue; see [MoveError].
// Declare the plan again ([Plan.Declare]) to restore deleted queues. A deleted wait queue takes its messages with it. If the
// source queue is deleted, messages stay in their wait queues until it is declared again.
//
// A message that reaches the delivery limit of its queue, because connections were lost while it was unacknowledged, never reaches
// a handler again. With Config.Source it is parked then; another queue needs a dead-letter exchange, or no limit.
//
// # Parked messages
//
// In the parking queue a message has its body, properties and headers as they came, and its history in headers of the toolkit, from
// x-amqpkit-attempts on: why, how often, when and where it failed, and where it had been published to. Properties that would act again are
// kept under another name (CC, expiration and user id), and RabbitMQ's counts (x-death and others) are left out. If not
// everything fits into a frame, the history is shortened first. Then as few headers as possible are dropped, named in
// x-amqpkit-dropped, and logged.
//
// # Policies
//
// A policy is a value that never retries indefinitely by accident. It has no state, because a message carries its own count of
// attempts, so it means the same in every process. It also serves as a backoff.BackOff of
// github.com/cenkalti/backoff/v4: see [Policy.BackOff].
package retry

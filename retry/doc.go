// Package retry turns a failed message into a later attempt, and the last failure into a parked message.
// It is lost in neither: the original is acknowledged when RabbitMQ has confirmed the copy.
//
//	plan, err := retry.New("orders", retry.Schedule(10*time.Second, time.Minute),
//		retry.OnType[*ValidationError](retry.Park),
//		retry.OnError(ErrOutOfStock, retry.Schedule(time.Hour)))
//	…
//	conn, err := amqpkit.Open(amqpkit.Config{Setup: plan.Declare, …}) // its wait queues are there before anyone fails
//	p, err := producer.New(conn, producer.Config{})
//	c, err := consumer.New(conn, consumer.Config{
//		Queue:      "orders",
//		Middleware: []consumer.Middleware{plan.Middleware(p)},
//	}, handler)
//
// A handler tells by its error what is to be done: [Permanent], [After], consumer.Reject, or whatever
// a [Rule] or the policy is for; see [Plan.Middleware].
//
// # How it waits
//
// Each delay has a queue of its own, orders.wait.10s, in which everything waits equally long (its TTL), so that
// nothing waits behind anything; a TTL on messages would make short delays wait for long ones. From there
// RabbitMQ takes messages back to the source queue by dead-lettering at least once:
//
//	orders ── handler fails: publish, confirm, ack ──▶ orders.wait.10s ── after 10s ──▶ orders
//	       ── it was the last attempt: the same ─────▶ orders.parked
//
// The way into the wait queue is a publish and no rejection. RabbitMQ drops what goes round in a ring by expiry alone, and
// that it does not take for one: a message published is a new one to it. For the same reason its own counts (x-death,
// x-delivery-count) begin anew with each round; attempts are counted in a header of the message, [HeaderAttempts].
// The count is exact for each copy of a message. There can be another copy each time the connection is lost between the
// confirm and the ack, or a confirm comes later than Config.HopTimeout: all have the same message id, and none exceeds the policy.
//
// Delays up to Config.InProcess are waited out by the worker that handles the message. That spares the trip,
// and holds back the message's key where a consumer orders by key.
//
// Jitter makes messages that failed together come back at different times. As a queue has one delay, it is a choice of
// four queues at random, evenly spread between the shortest delay and the full one: with full jitter of 8 s these are
// 2, 4, 6 and 8 s. In the process it is any time in between.
//
// # What can go wrong
//
// When the wait or the parking queue is missing, full or deleted, the message goes to the end of the source queue, with what it owes in
// its headers, and comes again from there; when RabbitMQ is away, it stays where it is: see [HopError]. Declare the plan again ([Plan.Declare]) to bring back what was deleted.
// With a wait queue that is deleted its messages are gone, as RabbitMQ deletes what is in it. If it is the source queue
// that is deleted, messages stay in their wait queues until it is back.
//
// A message that reaches the delivery limit of its queue, because connections were lost while it was in hand, never comes to
// a handler again. With Config.Source it is parked then too; another queue needs a dead-letter exchange, or no limit.
//
// # Parked messages
//
// In the parking queue a message has its body, properties and headers as they came, and its story in headers of its own, from
// [HeaderAttempts] on: what it failed of, how often, when, where, and what it had been published to. Only what would act again is kept
// under another name (CC, expiration and user id) and what RabbitMQ counts of it (x-death and others) is left out. Headers that
// would not fit a frame are shortened or left out, the story's first, and named in [HeaderDropped].
//
// # Policies
//
// A policy is a value that never retries for ever by accident. It keeps no state, because a message carries its own count of
// attempts, and so it means the same in every process. It also serves wherever a backoff.BackOff of
// github.com/cenkalti/backoff/v4 is asked for: [Policy.BackOff] makes one.
package retry

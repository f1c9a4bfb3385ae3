// Package parking inspects, replays, exports and imports parked messages: messages that a retry plan gave up on, or that RabbitMQ dead-lettered.
// No message is lost: a message leaves its queue only after RabbitMQ has confirmed the copy.
//
//	messages, err := parking.Peek(ctx, conn, "orders.parked", 10) // the first ten; they stay in the queue
//	result, err := parking.Replay(ctx, conn, producer, parking.ReplayConfig{
//		Queue: "orders.parked",
//		Match: func(m parking.Message) bool { return m.ErrorType == "*net.OpError" },
//	})
//	n, err := parking.Export(ctx, conn, "orders.parked", file) // JSON lines, which Import publishes again
//
// [Peek], [Replay] and [Export] read the messages that the queue holds at the start, each message once, over a separate connection if
// possible. A [Publisher], such as a *producer.Producer, publishes for [Replay] and [Import].
package parking

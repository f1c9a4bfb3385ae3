// Package parking inspects, replays, exports and imports parked messages. A retry plan parks a message after its last attempt, and RabbitMQ
// may dead-letter a message to a parking queue. No message is lost in a replay: a message leaves its queue only after RabbitMQ has
// confirmed the copy.
//
//	messages, err := parking.Peek(ctx, conn, "orders.parked", 10) // the first ten; they stay in the queue
//	result, err := parking.Replay(ctx, conn, producer, parking.ReplayConfig{
//		Queue: "orders.parked",
//		Match: func(m parking.Message) bool { return m.ErrorType == "*net.OpError" },
//	})
//	n, err := parking.Export(ctx, conn, "orders.parked", file) // JSON lines, which Import publishes again
//
// [Peek], [Replay] and [Export] read each message that the queue holds at the start once, over a separate connection if possible. Peek and
// Export leave the messages in the queue. A [Publisher], such as a *producer.Producer, publishes for [Replay] and [Import].
package parking

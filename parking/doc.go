// Package parking inspects, replays, exports and imports parked messages: messages that a retry plan gave up, or that RabbitMQ dead-lettered.
// No message is lost: it leaves its queue only after RabbitMQ has confirmed the copy.
//
//	messages, err := parking.Peek(ctx, conn, "orders.parked", 10) // the first ten, which stay
//	result, err := parking.Replay(ctx, conn, producer, parking.ReplayConfig{
//		Queue: "orders.parked",
//		Match: func(m parking.Message) bool { return m.ErrorType == "*net.OpError" },
//	})
//	n, err := parking.Export(ctx, conn, "orders.parked", file) // JSON lines, which Import publishes again
//
// Each function reads once the messages that the queue holds at the start, over a separate connection if possible.
package parking

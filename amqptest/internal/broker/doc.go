// Package broker implements the in-process broker: RabbitMQ 4.3 as clients observe it, without persistent storage.
//
// Each connection has two goroutines: a reader that executes the client's methods and a writer that writes the
// connection's buffer. All shared state is guarded by one mutex (Broker.update). Queues have no goroutine: at the end
// of each update the broker delivers and expires messages in the queues that the update changed. Future events are
// timers in one heap (clock.go).
package broker

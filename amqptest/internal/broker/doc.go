// Package broker is a RabbitMQ inside the process: what clients can tell of RabbitMQ 4.3, without its storage.
//
// A connection has two goroutines: a reader, which carries out what the client asks for, and a writer, which writes
// what has been put into the connection's buffer. Everything they share, and all that a broker knows, is behind one
// mutex (Broker.update). Queues have no goroutine: what is to be delivered, or has expired, is looked for at the end of
// every update, in the queues that it touched. What becomes due later is in one heap (clock.go), with one timer.
package broker

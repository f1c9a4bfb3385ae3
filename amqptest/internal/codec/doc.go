// Package codec reads and writes AMQP 0-9-1 as RabbitMQ speaks it: frames, methods, content properties and field
// tables. Nothing that is read allocates more than a small multiple of the frame it came in.
package codec

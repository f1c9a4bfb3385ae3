// Package codec decodes and encodes AMQP 0-9-1 like RabbitMQ: frames, methods, content properties and field tables.
// Decoding allocates at most a small multiple of the frame's size.
package codec

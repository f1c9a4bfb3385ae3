// Package conformance compares amqptest with RabbitMQ: its broker by recorded transcripts, its proxy by connections to
// RabbitMQ through it.
package conformance

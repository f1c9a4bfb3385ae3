// Package publishing tests the outcome of messages, refused input, backpressure and memory alarms on RabbitMQ.
package publishing

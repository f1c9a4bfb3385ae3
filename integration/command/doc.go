// Package command tests the command amqpkit as a process, on RabbitMQ.
package command

// Package examples runs the programs of the folder examples on RabbitMQ, also together with pika scripts.
package examples

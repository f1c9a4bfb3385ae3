// Package consuming tests settlements, shutdown, order, streams and messages that cannot be handled on RabbitMQ.
package consuming

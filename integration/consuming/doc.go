// Package consuming tests settlements, shutdown, order, streams and undeliverable messages on RabbitMQ.
package consuming

// Package definitions is RabbitMQ's JSON form of exchanges, queues and bindings
// (https://www.rabbitmq.com/docs/definitions). Package topology converts its objects, and package topologyfile uses their
// places in the file.
package definitions

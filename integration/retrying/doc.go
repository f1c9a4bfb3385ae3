// Package retrying tests delays, attempts, parking queues and replay on RabbitMQ.
package retrying

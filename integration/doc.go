// Package integration proves the promises of this module on a real RabbitMQ. It holds tests only; package
// rabbit, beneath it, starts the broker that they share.
package integration

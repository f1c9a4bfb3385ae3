// Package wire is the transport below amqp091-go, and calls over it that ctx bounds.
package wire

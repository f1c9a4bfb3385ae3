package consumer

import (
	amqp "github.com/rabbitmq/amqp091-go"
)

// A Delivery is one message handed out by RabbitMQ, to be settled once.
//
// In a handler the result settles it: Ack, Nack and Reject return ErrSettledByResult and send
// nothing. A Delivery from Get is settled by calling one of them.
type Delivery struct {
	amqp.Delivery

	// Queue is the queue it was consumed from. AMQP does not send it along.
	Queue string

	gone func() bool // whether its channel is
}

// Stale reports, in a handler, that the channel the delivery came from is gone. Whatever the handler returns is not sent, and
// RabbitMQ delivers the message again: what is still to be done for it is better left to that delivery.
func (d *Delivery) Stale() bool { return d.gone != nil && d.gone() }

// byResult is the Acknowledger of a delivery in a handler.
type byResult struct{}

func (byResult) Ack(uint64, bool) error        { return ErrSettledByResult }
func (byResult) Nack(uint64, bool, bool) error { return ErrSettledByResult }
func (byResult) Reject(uint64, bool) error     { return ErrSettledByResult }

package consumer

import (
	amqp "github.com/rabbitmq/amqp091-go"
)

// A Delivery is one message handed out by RabbitMQ, to be settled once.
//
// In a handler the result settles it: Ack, Nack and Reject return ErrAlreadySettled and send
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

func (byResult) Ack(uint64, bool) error        { return errSettledByResult }
func (byResult) Nack(uint64, bool, bool) error { return errSettledByResult }
func (byResult) Reject(uint64, bool) error     { return errSettledByResult }

// deliveryCount returns how many failed deliveries of a message a quorum queue has counted.
func deliveryCount(h amqp.Table) (int, bool) {
	n, ok := h["x-delivery-count"].(int64)
	return int(max(0, n)), ok
}

// rejectedFrom reports whether a message was rejected from the queue before and returned at once through the queue's
// dead-letter exchange. On its way through a wait queue it would have expired since: x-death lists the newest event first.
func rejectedFrom(queue string, d *Delivery) bool {
	deaths, _ := d.Headers["x-death"].([]any)
	for _, v := range deaths {
		switch death, _ := v.(amqp.Table); {
		case death["reason"] == "expired":
			return false
		case death["reason"] == "rejected" && death["queue"] == queue:
			return true
		}
	}
	return false
}

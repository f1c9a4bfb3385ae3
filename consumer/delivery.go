package consumer

import (
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A Delivery is a message delivered by RabbitMQ. It is settled once.
//
// In a handler the result settles it: Ack, Nack and Reject return ErrAlreadySettled and send nothing. A Delivery from
// Get is settled by calling one of them.
type Delivery struct {
	amqp.Delivery

	// Queue is the name of the queue that it was consumed from. AMQP does not include it in a delivery.
	Queue string

	isClosed func() bool // reports whether its channel was closed
}

// Stale reports, in a handler, that the channel of the delivery was closed. The result of the handler is then not
// sent, and RabbitMQ redelivers the message, so a handler can leave the remaining work to the redelivery.
func (d *Delivery) Stale() bool { return d.isClosed != nil && d.isClosed() }

// byResult is the Acknowledger of a delivery in a handler.
type byResult struct{}

func (byResult) Ack(uint64, bool) error        { return errSettledByResult }
func (byResult) Nack(uint64, bool, bool) error { return errSettledByResult }
func (byResult) Reject(uint64, bool) error     { return errSettledByResult }

// deliveryCount returns the number of failed deliveries that a quorum queue has counted for a message.
func deliveryCount(h amqp.Table) (int, bool) { return wire.DeliveryCount(h) }

// rejectedFrom reports whether the message was rejected from the queue before and returned immediately through the
// queue's dead-letter exchange. A message that passed through a wait queue has a later "expired" event: x-death lists
// the newest event first.
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

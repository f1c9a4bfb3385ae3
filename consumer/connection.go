package consumer

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A Connection hands out the current session for consuming. *amqpkit.Conn is one.
type Connection interface {
	// Consuming returns the current session, waiting until one is up. It fails only if ctx
	// ended or the connection ended for good.
	ConsumeConnection(ctx context.Context) (*amqp.Connection, error)
}

// A Restorer is a Connection that can bring a missing queue back. *amqpkit.Conn is one: it runs its
// Setup again. A Connection that wraps a Conn should pass QueueMissing on.
type Restorer interface {
	Connection

	// QueueMissing reports that a consumer cannot use its queue: the broker answered 404 when it
	// subscribed, or cancelled its consumer. Run calls it once until it is subscribed again, and calls found then, or
	// when it returns; the Restorer is not ready meanwhile. Run keeps trying to subscribe, and does so at
	// once when tried receives a value, after each attempt to bring the queue back.
	QueueMissing(queue string, cause error) (tried <-chan struct{}, found func())
}

// A DedicatedConnector is a Connection that can open another connection for one subscription alone. *amqpkit.Conn is one. A
// Consumer uses it while a message is suspected of costing the connection, see PoisonError.
type DedicatedConnector interface {
	Connection
	// Dedicated makes one attempt to open a connection, which the caller closes.
	DedicatedConnection(ctx context.Context) (*amqp.Connection, error)
	// LastLoss returns when and how the connection of Consuming was lost last.
	LastLoss() (at time.Time, err error)
}

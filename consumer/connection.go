package consumer

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A Connection provides the current session for consuming. *amqpkit.Conn implements it.
//
// A Consumer also uses other methods of *amqpkit.Conn if its Connection has them, so a wrapper should embed the Conn:
//
//   - Logger() *slog.Logger returns the default of Config.Logger.
//   - QueueMissing(queue string, cause error) (tried <-chan struct{}, found func()) reports that the queue is missing:
//     the broker answered 404, or cancelled the consumer. The Conn runs Setup again. It is not ready until Run is
//     subscribed again, or returns, and calls found. Run tries to subscribe at once when tried receives a value.
//   - DedicatedConnection(ctx context.Context) (*amqp.Connection, error) makes one attempt to open a separate
//     connection, which the Consumer closes. LastLoss() (at time.Time, err error) returns when and how the session was
//     last lost. Both are used while a message is suspected of closing the connection, see PoisonError. A Connection
//     must have both or neither.
type Connection interface {
	// ConsumeConnection returns the current session, and waits until one is available. It returns an error only if
	// ctx has ended or the connection was closed permanently.
	ConsumeConnection(ctx context.Context) (*amqp.Connection, error)
}

// A restorer is a Connection that can restore a missing queue.
type restorer interface {
	QueueMissing(queue string, cause error) (tried <-chan struct{}, found func())
}

// A dedicatedConnector is a Connection that can open a separate connection for one subscription.
type dedicatedConnector interface {
	DedicatedConnection(ctx context.Context) (*amqp.Connection, error)
	LastLoss() (at time.Time, err error)
}

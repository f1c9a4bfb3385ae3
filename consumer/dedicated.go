package consumer

import (
	"context"
	"fmt"
	"log/slog"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// dedicatedTries is the number of consecutive failed attempts after which the shared connection is used instead.
const dedicatedTries = 3

// A connector selects the connection for the next subscription.
type connector struct {
	state  *runState
	conn   Connection
	role   string // of the connection that the last attempt used, for log lines
	poison suspicion
}

// A connectionError is the error of Connection.ConsumeConnection. Unless ctx has ended, there will never be a session again.
type connectionError struct{ error }

func (e *connectionError) Unwrap() error { return e.error }

// connection returns the connection to subscribe on, and whether it is dedicated to this subscription.
func (c *connector) connection(ctx context.Context) (ac *amqp.Connection, own bool, err error) {
	c.role = "consuming"
	ac, err = c.conn.ConsumeConnection(ctx) // also for a dedicated connection, to wait until the broker is reachable
	if err != nil {
		return nil, false, &connectionError{fmt.Errorf("consumer: %w", validate.Unprefixed(err))}
	}
	d, ok := c.conn.(dedicatedConnector)
	if !ok {
		return ac, false, nil
	}
	c.poison.others(d.LastLoss())
	if !c.poison.dedicated {
		return ac, false, nil
	}
	c.role = "dedicated"
	dedicated, err := d.DedicatedConnection(ctx)
	if err == nil {
		c.state.warnings.Reset("dedicated")
		c.poison.refused = 0
		return dedicated, true, nil
	}
	// The broker may refuse every dedicated connection, for example because the number of connections is limited.
	if c.poison.refused++; ctx.Err() == nil && (wire.Code(err) != 0 || c.poison.refused >= dedicatedTries) {
		c.state.warnings.Warn(c.state.ctx(), c.state.log, "dedicated",
			"consumer: no dedicated connection for a queue with a suspected message; using the shared one",
			slog.String("role", c.role), slog.Any("error", err))
		c.role = "consuming"
		return ac, false, nil
	}
	return nil, false, &SubscribeError{Queue: c.state.cfg.Queue, Err: err}
}

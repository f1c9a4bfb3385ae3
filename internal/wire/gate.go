package wire

import (
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Gate holds whether the broker blocks publishing on a connection. The broker sends connection.blocked and stops
// reading while an alarm of memory or disk space is raised, and sends connection.unblocked afterwards. The zero Gate is
// open.
//
// See https://www.rabbitmq.com/docs/connection-blocked
type Gate struct {
	mu      sync.Mutex
	err     error
	changed chan struct{} // closed at the next change; nil until Watch is called
}

// Set records a notification from the broker.
func (g *Gate) Set(b amqp.Blocking) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = nil
	if b.Active {
		g.err = fmt.Errorf("%w: %s", amqperr.ErrBlocked, validate.Printable(b.Reason))
	}
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// Err returns an error that wraps amqperr.ErrBlocked and contains the broker's reason while it blocks publishing, or nil.
func (g *Gate) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Watch returns Err, and a channel that is closed when it changes.
func (g *Gate) Watch() (changed <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed, g.err
}

// GateOf returns the gate of ac. The gate of a connection that amqpkit did not dial stays open.
func GateOf(ac *amqp.Connection) *Gate {
	if l := linkOf(ac); l != nil {
		return &l.Gate
	}
	return new(Gate)
}

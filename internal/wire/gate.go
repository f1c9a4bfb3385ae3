package wire

import (
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Gate tells whether the broker blocks publishing on a connection: it sends
// connection.blocked when an alarm of memory or disk space is raised, stops reading, and sends
// connection.unblocked when it has cleared. The zero Gate is open.
//
// See https://www.rabbitmq.com/docs/connection-blocked
type Gate struct {
	mu      sync.Mutex
	err     error
	changed chan struct{} // closed at the next change, if somebody waits for it
}

// Set records what the broker said.
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

// Err wraps amqperr.ErrBlocked while the broker blocks publishing, and tells its reason.
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

// GateOf returns the gate of ac. That of a connection which amqpkit did not dial stays open.
func GateOf(ac *amqp.Connection) *Gate {
	if l := linkOf(ac); l != nil {
		return &l.Gate
	}
	return new(Gate)
}

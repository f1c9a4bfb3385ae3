package wire

import (
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Gate records whether the broker blocks publishing on a connection. The broker sends connection.blocked and stops reading when it
// raises an alarm of memory or disk space, and sends connection.unblocked when the alarm is cleared. The zero Gate is open.
//
// See https://www.rabbitmq.com/docs/connection-blocked
type Gate struct {
	mu      sync.Mutex
	err     error
	changed chan struct{} // closed at the next change; nil without a waiter
}

// Set records connection.blocked and connection.unblocked.
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

// Err wraps amqperr.ErrBlocked while the broker blocks publishing, with its reason.
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

// GateOf returns the gate of ac. It stays open if amqpkit did not dial ac.
func GateOf(ac *amqp.Connection) *Gate {
	if l := linkOf(ac); l != nil {
		return &l.Gate
	}
	return new(Gate)
}

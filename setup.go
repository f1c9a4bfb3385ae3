package amqpkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// errNewSession interrupts a repeated run of Setup, because a new session's own run does the same.
var errNewSession = errors.New("a new session's Setup goes first")

// A setup runs Config.Setup and the steps of AddSetup, one run at a time. Its fields are guarded by
// Conn.mu, except the semaphore.
type setup struct {
	running chan struct{} // a semaphore of one

	waiting   int                     // new sessions that wait for the semaphore
	interrupt context.CancelCauseFunc // cancels a repeated run; nil without one
	steps     []*setupFunc            // added by AddSetup
	sessions  []*amqp.Connection      // set up, and open when that was looked at last
}

type setupFunc func(ctx context.Context, ac *amqp.Connection) error

// AddSetup adds a step to Setup while the Conn lives: for topology that a program learns of at run
// time, such as the queue of a new subscriber. The step runs now on every session that is up, or on
// the next one. It runs after Config.Setup on every later session, in the order in which steps were
// added. Like Setup it must be repeatable and must return when its ctx ends; it never runs at the
// same time as Setup or another step.
//
// It returns nil when the step has succeeded and was added. After an error, or the end of ctx, it was
// not added. SetupTimeout bounds each run.
//
// remove takes the step out of later sessions. It deletes nothing on the broker. A step that begins to
// fail fails the Setup of every later session, and the Conn is not ready until it succeeds or is
// removed.
func (c *Conn) AddSetup(ctx context.Context, step func(ctx context.Context, ac *amqp.Connection) error) (remove func(), err error) {
	if step == nil {
		return nil, fault("step", "is nil", "pass a function, such as a topology.Topology's Declare")
	}
	for {
		if err := c.await(ctx, c.noSession); err != nil {
			return nil, err
		}
		added, err := c.addSetup(ctx, step)
		if err != nil {
			return nil, wrap("add to Setup", err)
		}
		if added != nil {
			return func() { c.removeSetup(added) }, nil
		}
	}
}

// addSetup runs the step on the sessions, and adds it. It returns nil if a session was lost meanwhile.
func (c *Conn) addSetup(ctx context.Context, step setupFunc) (added *setupFunc, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()
	release, err := c.setup.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	c.mu.Lock()
	sessions := c.setup.living()
	c.mu.Unlock()
	for _, ac := range sessions {
		err := c.bounded(ctx, ac, step)
		if ac.IsClosed() {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if len(sessions) == 0 {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setup.steps = append(c.setup.steps, &step)
	c.notify()
	return &step, nil
}

func (c *Conn) removeSetup(step *setupFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.setup.steps {
		if s == step {
			c.setup.steps = append(c.setup.steps[:i:i], c.setup.steps[i+1:]...)
			return
		}
	}
}

// noSession returns nil if a session is up on which Setup has run. c.mu is held.
func (c *Conn) noSession() error {
	if len(c.setup.living()) > 0 {
		return nil
	}
	return cmp.Or(c.err(), errNotUp)
}

// setUpFirst runs Setup on a new session only if no session is up on which it has run: many consumers may open a dedicated
// connection concurrently, and Setup runs one at a time.
func (c *Conn) setUpFirst(ctx context.Context, ac *amqp.Connection) error {
	c.mu.Lock()
	err := c.noSession()
	c.mu.Unlock()
	if err == nil {
		return nil
	}
	return c.setUp(ctx, ac)
}

// setUp runs Setup on a new session.
func (c *Conn) setUp(ctx context.Context, ac *amqp.Connection) error {
	c.mu.Lock()
	c.setup.waiting++
	if c.setup.interrupt != nil {
		c.setup.interrupt(errNewSession)
	}
	c.mu.Unlock()
	release, err := c.setup.acquire(ctx)
	c.mu.Lock()
	c.setup.waiting--
	c.mu.Unlock()
	if err != nil {
		return err
	}
	defer release()
	// A Setup that calls amqp091-go directly does not see ctx: its calls end with the link, which
	// is not in use yet.
	err = c.bounded(ctx, ac, func(ctx context.Context, ac *amqp.Connection) error {
		defer context.AfterFunc(ctx, func() { wire.Kill(ac) })()
		return c.runSetup(ctx, ac)
	})
	if err == nil {
		c.mu.Lock()
		c.setup.sessions = append(c.setup.living(), ac)
		c.mu.Unlock()
	}
	return err
}

// setUpAgain runs Setup on a session that is in use. Neither the end of the run nor a new session, which
// goes first, costs that session, unless Setup does not return when its ctx ends.
func (c *Conn) setUpAgain(ac *amqp.Connection) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	release, err := c.setup.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	c.mu.Lock()
	if c.setup.waiting > 0 {
		cancel(errNewSession)
	}
	c.setup.interrupt = cancel
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.setup.interrupt = nil
		c.mu.Unlock()
	}()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.bounded(ctx, ac, c.runSetup)
}

// runSetup runs Config.Setup and the added steps.
func (c *Conn) runSetup(ctx context.Context, ac *amqp.Connection) error {
	c.mu.Lock()
	steps := append([]*setupFunc(nil), c.setup.steps...)
	c.mu.Unlock()
	if c.cfg.Setup != nil {
		if err := c.cfg.Setup(ctx, ac); err != nil {
			return err
		}
	}
	for _, step := range steps {
		if err := (*step)(ctx, ac); err != nil {
			return err
		}
	}
	return nil
}

// bounded runs f with SetupTimeout. If f does not return soon after its ctx ended, the link is killed,
// because f may wait for an answer that never comes.
func (c *Conn) bounded(ctx context.Context, ac *amqp.Connection, f setupFunc) error {
	limit := c.cfg.SetupTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v", limit))
	defer cancel()
	overdue := time.AfterFunc(limit+wire.Grace, func() { wire.Kill(ac) })
	defer overdue.Stop()
	err := f(ctx, ac)
	if ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	if err == nil || errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// acquire waits until no other run is under way.
func (s *setup) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.running <- struct{}{}:
		return func() { <-s.running }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// living returns the sessions that are set up and open. Conn.mu is held.
func (s *setup) living() []*amqp.Connection {
	var open []*amqp.Connection
	for _, ac := range s.sessions {
		if !ac.IsClosed() {
			open = append(open, ac)
		}
	}
	return open
}

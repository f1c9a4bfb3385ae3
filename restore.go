package amqpkit

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// The timing of runs of Setup for missing queues.
const (
	restoreEvery   = time.Second            // at most one run in this time
	restoreSlowest = 30 * time.Second       // where Setup succeeds and the queue is still missing
	restoreDelay   = 100 * time.Millisecond // several consumers of deleted queues share a run
)

// The kinds of warnings that repeat.
const (
	kindMissing = "queue missing"
	kindSetup   = "Setup failed again"
)

// A missing is a consumer without its queue. Its fields are guarded by Conn.mu.
type missing struct {
	queue string
	cause error
	tried chan struct{} // receives after each run of Setup
	due   time.Time     // of the next run
	pause time.Duration // until the run after that
	runs  int
	whole bool // a run succeeded
	found bool // not missing any more
}

// QueueMissing reports that a consumer cannot use its queue, because it does not exist or RabbitMQ
// cancelled its consumer. Package consumer calls it, see consumer.Connection.
//
// The Conn runs Setup again on the consuming session, unless Config.SetupOnce is set: after 100 ms, then
// every second while Setup fails, and with pauses that double up to 30 s where it succeeds and the queue
// is still missing, or fails and the consumer has its queue. It stops once it succeeded and found was called. All consumers share the runs, at most one a second. [Conn.Err] returns a *[MissingError] until
// found is called, which may happen more than once. tried receives a value after each run.
func (c *Conn) QueueMissing(queue string, cause error) (tried <-chan struct{}, found func()) {
	m := &missing{
		queue: queue,
		cause: cause,
		tried: make(chan struct{}, 1),
		due:   time.Now().Add(restoreDelay),
		pause: restoreEvery,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missing = append(c.missing, m)
	if !c.restoring && c.ctx.Err() == nil {
		c.restoring = true
		c.running.Go(c.restore)
	}
	c.notify()
	return m.tried, sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		m.found = true
		c.dropFound()
		c.notify()
	})
}

// restore runs Setup again until no queue is missing.
func (c *Conn) restore() {
	for {
		c.mu.Lock()
		if len(c.missing) == 0 || c.ctx.Err() != nil {
			c.restoring = false
			c.mu.Unlock()
			return
		}
		ac, in := c.nextRestore()
		changed := c.changed
		c.mu.Unlock()
		if ac != nil && in <= 0 {
			c.restoreNow(ac)
			continue
		}
		due := time.NewTimer(in)
		select {
		case <-due.C:
		case <-changed:
		case <-c.ctx.Done():
		}
		due.Stop()
	}
}

// restoreNow runs Setup once more for all missing queues.
func (c *Conn) restoreNow(ac *amqp.Connection) {
	began := time.Now()
	c.mu.Lock()
	c.restored = began
	round := slices.Clone(c.missing)
	fresh := slices.ContainsFunc(round, func(m *missing) bool { return m.runs == 0 })
	queues := slog.String("queue", strings.Join(c.missingQueues(), ", "))
	c.mu.Unlock()
	if fresh {
		c.repeated.Reset(kindMissing)
	}
	c.repeated.Warn(c.ctx, c.cfg.Logger, kindMissing, "amqpkit: a consumer's queue is missing or was deleted, running Setup again", c.attrs(consuming, queues)...)
	err := c.setUpAgain(ac)
	switch {
	case c.ctx.Err() != nil || ac.IsClosed() || errors.Is(err, errNewSession):
		c.log(c.ctx, slog.LevelDebug, consuming, "amqpkit: Setup did not finish, a new session runs it", queues, slog.Any("error", err))
	case err == nil:
		c.repeated.Reset(kindSetup)
		level := slog.LevelDebug
		if fresh {
			level = slog.LevelInfo
		}
		c.log(c.ctx, level, consuming, "amqpkit: Setup ran again", queues, slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	default:
		c.repeated.Warn(c.ctx, c.cfg.Logger, kindSetup, "amqpkit: Setup failed when it ran again, trying again", c.attrs(consuming, queues, slog.Any("error", err))...)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.restoreErr = err
	for _, m := range round {
		m.runs++
		m.due = began.Add(m.pause)
		m.whole = m.whole || err == nil
		if err == nil || m.found || amqperr.IsPermanent(err) {
			m.pause = min(2*m.pause, restoreSlowest)
		} else {
			m.pause = restoreEvery
		}
		select {
		case m.tried <- struct{}{}:
		default: // the consumer has not seen the last one yet
		}
	}
	c.dropFound()
	c.notify()
}

// The helpers below are called with c.mu held.

// restorable reports whether Setup may run again.
func (c *Conn) restorable() bool {
	return !c.cfg.SetupOnce && (c.cfg.Setup != nil || len(c.setup.steps) > 0)
}

// nextRestore returns the session to run Setup on, or nil, and how long to wait.
func (c *Conn) nextRestore() (ac *amqp.Connection, in time.Duration) {
	due := c.missing[0].due
	for _, m := range c.missing {
		if m.due.Before(due) {
			due = m.due
		}
	}
	if next := c.restored.Add(restoreEvery); due.Before(next) {
		due = next
	}
	if l := c.find(consuming); c.restorable() && l != nil && l.session != nil && !l.session.IsClosed() {
		return l.session, time.Until(due)
	}
	return nil, time.Hour // or until the next change
}

// dropFound removes consumers that have their queue, once Setup has succeeded: a queue that another client
// redeclared may lack its bindings, and more than the queue may have been deleted.
func (c *Conn) dropFound() {
	c.missing = slices.DeleteFunc(c.missing, func(m *missing) bool { return m.found && (m.whole || !c.restorable()) })
	if len(c.missing) == 0 {
		c.restoreErr = nil
	}
}

// missingQueues returns the names of missing queues.
func (c *Conn) missingQueues() []string {
	var queues []string
	for _, m := range c.missing {
		if !m.found && !slices.Contains(queues, m.queue) {
			queues = append(queues, m.queue)
		}
	}
	return queues
}

// missingErr returns a *MissingError, or nil.
func (c *Conn) missingErr() error {
	for _, m := range c.missing {
		if !m.found {
			return &MissingError{Queues: c.missingQueues(), Again: c.restorable(), Setup: c.restoreErr, Err: m.cause}
		}
	}
	return nil
}

// A MissingError reports that the Conn is connected, but consumers lack their queues. It wraps Err and Setup.
type MissingError struct {
	Queues []string // their names
	Again  bool     // Setup runs again for them; false without a Setup, and with Config.SetupOnce
	Setup  error    // why the last repeated run of Setup failed; nil if it succeeded or there was none
	Err    error    // why the first of these consumers is not consuming
}

func (e *MissingError) Error() string {
	const most = 8
	s := "amqpkit: a consumer lacks its queue"
	if len(e.Queues) > 1 {
		s = fmt.Sprintf("amqpkit: consumers lack %d queues", len(e.Queues))
	}
	for i, q := range e.Queues {
		if i == most {
			s += ", …"
			break
		}
		s += map[bool]string{true: ": ", false: ", "}[i == 0] + validate.Quote(q)
	}
	switch {
	case !e.Again:
		s += "; declare it, or have Config.Setup declare it, without Config.SetupOnce"
	case e.Setup != nil:
		s += "; Setup ran again and failed: " + text(e.Setup)
	default:
		s += "; Setup runs again for it, and must declare it"
	}
	return s + ": " + text(e.Err)
}

// Unwrap returns Err, and Setup if it is set.
func (e *MissingError) Unwrap() []error {
	if e.Setup == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Setup}
}

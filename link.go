package amqpkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/dial"
	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// A session that lived for less than steady continues the backoff of the previous outage: otherwise a fault that closes each session at
// once would make a loop as fast as the handshake. Its pause is at most flapPause, because the broker is reachable.
const (
	steady    = 5 * time.Millisecond
	flapPause = 100 * time.Millisecond
)

// flapping is the lifetime below which the loss of a session is a repetition of the previous loss in the log.
const flapping = time.Second

// The role of a connection, as the log shows it.
type role string

const (
	unassigned role = "" // until the first publisher or consumer asks; log lines have no role meanwhile
	publishing role = "publishing"
	consuming  role = "consuming"
	dedicated  role = "dedicated"
)

var errOtherUser = errors.New("the new credentials belong to another user, which needs a new connection")

// A link is one of a Conn's connections, through all its sessions. run is its only goroutine.
type link struct {
	conn *Conn

	// Guarded by conn.mu.
	role    role
	unnamed func(role)       // logs that the link is connected, once it has a role; nil if that is done
	session *amqp.Connection // nil while disconnected
	err     error            // the reason while disconnected
	blocked error            // wraps amqperr.ErrBlocked while the broker blocks publishing on it
	lost    loss             // the last one

	// Owned by run.
	ctx      context.Context // of attempts and their lines; until the first session it has the values of the ctx of the call that opened the link
	order    []int           // the rest of a shuffled pass over the targets
	sessions int             // so far
	flapped  bool            // the previous session was lost within flapping
	failures *logs.Limiter   // of one outage, and of renewals of credentials
}

// A loss is the time and the reason of the end of a session.
type loss struct {
	at  time.Time
	err error
}

// run keeps the link connected until the Conn ends. s is its first session, or nil.
func (l *link) run(s *dial.Session) {
	c := l.conn
	defer l.logClosed()
	opening, cancel := context.WithCancelCause(l.ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()
	l.ctx = opening
	var pauses backoff.BackOff // of the current outage
	for {
		if s != nil {
			l.ctx = c.ctx //nolint:fatcontext // it replaces the ctx of the first attempts
			began := time.Now()
			l.sessions++
			err := l.serve(s)
			if c.ctx.Err() != nil {
				l.close(s)
				return
			}
			lived := time.Since(began)
			l.lose(s, err, lived)
			most := flapPause
			if pauses == nil || lived >= steady {
				pauses, most = c.cfg.Backoff(), time.Duration(math.MaxInt64)
			}
			if !l.pause(pauses, most, err) {
				return
			}
		}
		var failed *dial.Error
		if s, failed = c.dialer.Connect(l.ctx, l.next(), c.setUp); failed == nil {
			l.failures = new(logs.Limiter)
			l.set(s.Connection, nil)
			if !l.flapped { // otherwise serve reports it, if the session lasts
				c.logUp(l.ctx, l, s)
			}
			continue
		}
		if c.ctx.Err() != nil {
			return
		}
		err := dialError(failed)
		l.set(nil, err)
		if amqperr.IsPermanent(err) {
			l.end(err)
			return
		}
		l.failures.Warn(l.ctx, c.cfg.Logger, err.URL+err.Kind.Error(), "amqpkit: cannot connect, trying again", c.attrs(c.roleOf(l), slog.Any("error", err))...)
		if pauses == nil {
			pauses = c.cfg.Backoff()
		}
		if !l.pause(pauses, math.MaxInt64, err) {
			return
		}
	}
}

// serve handles the events of a session until it ends, and returns the reason.
func (l *link) serve(s *dial.Session) error {
	c := l.conn
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	closed, blocked := s.NotifyClose(make(chan *amqp.Error, 1)), s.Blocked
	renew := time.NewTimer(Credentials(s.Login).renewIn(time.Now(), renewAt))
	defer renew.Stop()
	var renewed <-chan error
	var lasts <-chan time.Time
	if l.flapped {
		lasts = time.After(flapping)
	}
	var alarm amqp.Blocking // the last event
	again := time.NewTicker(logs.Interval)
	again.Stop() // until the broker blocks publishing
	defer again.Stop()
	for {
		select {
		case err, ok := <-closed:
			if !ok {
				return amqp.ErrClosed // lost before NotifyClose, or closed by its user
			}
			return err
		case b, ok := <-blocked:
			if !ok {
				blocked = nil // closed along with the connection
				continue
			}
			if alarm = b; b.Active {
				again.Reset(logs.Interval)
			} else {
				again.Stop()
			}
			l.block(s, b)
		case <-again.C:
			l.logBlocked(alarm)
		case <-lasts:
			c.logUp(c.ctx, l, s)
		case <-renew.C:
			renewed = l.renew(ctx, s)
		case err := <-renewed:
			renewed = nil
			switch {
			case errors.Is(err, errOtherUser):
				return err
			case err != nil:
				l.failures.Warn(ctx, c.cfg.Logger, "renew", "amqpkit: cannot renew the credentials, trying again",
					c.attrs(c.roleOf(l), slog.Time("expires", s.Login.Expires), slog.Any("error", err))...)
				renew.Reset(Credentials(s.Login).renewIn(time.Now(), retryAt))
			default:
				l.failures.Reset("renew")
				renew.Reset(Credentials(s.Login).renewIn(time.Now(), renewAt))
			}
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
}

// renew gets new credentials and sends the password to the broker, concurrently with the link's goroutine, and sends the result on the
// channel. ctx ends with the session.
//
// No timeout bounds the broker's answer: it does not read while it blocks publishing, and closing the session for that would make the
// outcome of unconfirmed messages unknown.
func (l *link) renew(ctx context.Context, s *dial.Session) <-chan error {
	result := make(chan error, 1)
	l.conn.running.Go(func() {
		asking, cancel := context.WithTimeoutCause(ctx, renewTimeout, fmt.Errorf("not done within %v", renewTimeout))
		defer cancel()
		fresh, err := l.conn.cfg.Credentials(asking)
		switch {
		case err != nil:
		case fresh.Username != s.Login.Username:
			err = errOtherUser
		default:
			err = wire.Do(ctx, s.Connection, func() error { return s.UpdateSecret(fresh.Password, "about to expire") })
		}
		if err == nil {
			s.Login = dial.Login(fresh)
		}
		result <- err
	})
	return result
}

// block records that the broker blocks or unblocks publishing.
func (l *link) block(s *dial.Session, b amqp.Blocking) {
	s.Gate.Set(b)
	c := l.conn
	c.mu.Lock()
	l.blocked = s.Gate.Err()
	c.mu.Unlock()
	l.logBlocked(b)
}

func (l *link) logBlocked(b amqp.Blocking) {
	c := l.conn
	if b.Active {
		c.log(c.ctx, slog.LevelWarn, c.roleOf(l), "amqpkit: the broker blocks publishing", slog.String("reason", b.Reason))
	} else {
		c.log(c.ctx, slog.LevelInfo, c.roleOf(l), "amqpkit: the broker accepts messages again")
	}
}

// lose records the loss of a session.
func (l *link) lose(s *dial.Session, err error, lived time.Duration) {
	wire.Kill(s.Connection)
	c := l.conn
	c.mu.Lock()
	l.lost = loss{time.Now(), err}
	l.session, l.unnamed, l.err, l.blocked = nil, nil, wrap("connection lost", err), nil
	c.notify()
	c.mu.Unlock()
	l.flapped = lived < flapping
	c.logLost(c.roleOf(l), s, err, l.flapped)
}

// pause waits as long as b returns, and at most that long. It returns false when the Conn ends, which it does if b returns backoff.Stop.
func (l *link) pause(b backoff.BackOff, most time.Duration, err error) bool {
	d := b.NextBackOff()
	if d == backoff.Stop {
		l.end(err)
		return false
	}
	if d > most {
		d = rand.N(most)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.conn.ctx.Done():
		return false
	}
}

func (l *link) next() dial.Target {
	if len(l.order) == 0 {
		l.order = rand.Perm(len(l.conn.targets))
	}
	i := l.order[0]
	l.order = l.order[1:]
	return l.conn.targets[i]
}

// down returns why the link has no session, or nil. conn.mu is held.
func (l *link) down() error {
	if l.session != nil && !l.session.IsClosed() {
		return nil
	}
	return cmp.Or(l.err, errNotUp)
}

func (l *link) set(ac *amqp.Connection, err error) {
	l.conn.mu.Lock()
	defer l.conn.mu.Unlock()
	l.session, l.err, l.blocked = ac, err, nil
	l.conn.notify()
}

// end closes the whole Conn, because no retry can heal err.
func (l *link) end(err error) {
	c := l.conn
	c.log(l.ctx, slog.LevelError, c.roleOf(l), "amqpkit: cannot connect, giving up", slog.Any("error", err))
	c.cancel(wrap("", ErrClosed, err))
}

// close closes a session when the Conn ends.
func (l *link) close(s *dial.Session) {
	c := l.conn
	ctx, cancel := context.WithTimeout(c.cutCtx, closeTimeout)
	defer cancel()
	if err := wire.Close(ctx, s.Connection); err != nil {
		c.log(c.closingCtx(), slog.LevelDebug, c.roleOf(l), "amqpkit: connection cut instead of closed", slog.Any("error", err))
	}
}

// logClosed reports the end of a link that was connected.
func (l *link) logClosed() {
	if c := l.conn; l.sessions > 0 {
		c.log(c.closingCtx(), slog.LevelInfo, c.roleOf(l), "amqpkit: connection closed", slog.Int("sessions", l.sessions))
	}
}

package amqpkit

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/dial"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// steady is how long a session must have lived for the next outage to start with a new
// backoff. One that died sooner continues the old one, or a session that something kills as
// soon as it is up would come and go as fast as the handshake allows; but its pause is at
// most flapPause, since the broker is there.
const (
	steady    = 5 * time.Millisecond
	flapPause = 100 * time.Millisecond
)

// A link is one of a Conn's connections, through all its sessions. run is its only goroutine.
type link struct {
	conn *Conn

	// Guarded by conn.mu.
	session *amqp.Connection // nil while there is none
	err     error            // why not
	blocked error            // wraps amqperr.ErrBlocked while the broker blocks publishing on it
	lost    loss             // of the last session that was lost

	// Owned by run.
	order  []int // what is left of a shuffled pass over the targets
	warned error // the kind of failure that was logged last, while it lasts
}

// run keeps the link connected until the Conn ends. s is its first session, or nil.
func (l *link) run(s *dial.Session) {
	c := l.conn
	var b backoff.BackOff // of the current outage
	lost := false         // there is one, and it was logged
	for {
		if s != nil {
			up := time.Now()
			err := l.serve(s)
			if c.ctx.Err() != nil {
				l.close(s.Connection)
				return
			}
			wire.Kill(s.Connection)
			l.record(err)
			l.set(nil, wrap("connection lost", err))
			lost = true
			c.cfg.Logger.Warn("amqpkit: connection lost", "connection", c.cfg.Name, "error", err)
			most := flapPause
			if b == nil || time.Since(up) >= steady {
				b, most = c.cfg.Backoff(), time.Duration(math.MaxInt64)
			}
			if !l.pause(b, most, err) {
				return
			}
		}
		var failed *dial.Error
		if s, failed = c.dialer.Connect(c.ctx, l.next(), c.setUp); failed == nil {
			l.warned = nil
			l.set(s.Connection, nil)
			level := slog.LevelDebug
			if lost {
				level = slog.LevelInfo
			}
			c.cfg.Logger.Log(context.Background(), level, "amqpkit: connected", "connection", c.cfg.Name, "broker", s.Properties["version"])
			lost = false
			continue
		}
		if c.ctx.Err() != nil {
			return
		}
		err := dialError(failed)
		l.set(nil, err)
		lost = true
		if amqperr.IsPermanent(err) {
			l.end(err)
			return
		}
		l.warn(err)
		if b == nil {
			b = c.cfg.Backoff()
		}
		if !l.pause(b, math.MaxInt64, err) {
			return
		}
	}
}

// serve looks after a session until it ends, and returns the reason.
func (l *link) serve(s *dial.Session) error {
	c := l.conn
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	closed, blocked := s.NotifyClose(make(chan *amqp.Error, 1)), s.Blocked
	renew := time.NewTimer(Credentials(s.Login).renewIn(time.Now(), renewAt))
	defer renew.Stop()
	var renewed <-chan error
	for {
		select {
		case err, ok := <-closed:
			if !ok {
				return amqp.ErrClosed // lost before we could listen, or closed by its user
			}
			return err
		case b, ok := <-blocked:
			if !ok {
				blocked = nil // closed along with the connection
				continue
			}
			l.block(s, b)
		case <-renew.C:
			renewed = l.renew(ctx, s)
		case err := <-renewed:
			renewed = nil
			switch {
			case errors.Is(err, errOtherUser):
				return err
			case err != nil:
				c.cfg.Logger.Warn("amqpkit: cannot renew the credentials, trying again", "connection", c.cfg.Name, "expires", s.Login.Expires, "error", err)
				renew.Reset(Credentials(s.Login).renewIn(time.Now(), retryAt))
			default:
				renew.Reset(Credentials(s.Login).renewIn(time.Now(), renewAt))
			}
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
}

// block notes that the broker blocks publishing, or does not any more.
func (l *link) block(s *dial.Session, b amqp.Blocking) {
	s.Gate.Set(b)
	c := l.conn
	c.mu.Lock()
	l.blocked = s.Gate.Err()
	c.mu.Unlock()
	if b.Active {
		c.cfg.Logger.Warn("amqpkit: the broker blocks publishing", "connection", c.cfg.Name, "reason", b.Reason)
	} else {
		c.cfg.Logger.Info("amqpkit: the broker takes messages again", "connection", c.cfg.Name)
	}
}

// pause waits as b says, at most that long. It returns false when the Conn ends, also because
// b gives up.
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

// warn logs a failure to connect, at a lower level while the same kind repeats: an outage may
// be long, and attempts are many.
func (l *link) warn(err error) {
	level := slog.LevelDebug
	if d, ok := errors.AsType[*DialError](err); !ok || d.Kind != l.warned { //nolint:errorlint // one of the package's own
		level = slog.LevelWarn
		if ok {
			l.warned = d.Kind
		}
	}
	l.conn.cfg.Logger.Log(context.Background(), level, "amqpkit: cannot connect, trying again", "connection", l.conn.cfg.Name, "error", err)
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

// end ends the whole Conn: err cannot heal.
func (l *link) end(err error) {
	l.conn.cfg.Logger.Error("amqpkit: cannot connect, giving up", "connection", l.conn.cfg.Name, "error", err)
	l.conn.cancel(wrap("", ErrClosed, err))
}

func (l *link) close(ac *amqp.Connection) {
	ctx, cancel := context.WithTimeout(l.conn.cutCtx, closeTimeout)
	defer cancel()
	if err := wire.Close(ctx, ac); err != nil {
		l.conn.cfg.Logger.Debug("amqpkit: connection cut instead of closed", "connection", l.conn.cfg.Name, "error", err)
	}
}

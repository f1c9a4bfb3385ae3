package amqpkit

import (
	"context"
	"log/slog"

	"github.com/amqpkit/amqpkit/internal/dial"
)

// Logger returns the Logger of the Config. Producers and consumers that use the Conn log to it by default.
func (c *Conn) Logger() *slog.Logger { return c.cfg.Logger }

// roleOf returns the role of a connection, which an unassigned one gets later.
func (c *Conn) roleOf(l *link) role {
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.role
}

// closingCtx returns the ctx of the lines of the shutdown.
func (c *Conn) closingCtx() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// log writes a line about a connection.
func (c *Conn) log(ctx context.Context, level slog.Level, r role, msg string, attrs ...slog.Attr) {
	c.cfg.Logger.LogAttrs(ctx, level, msg, c.attrs(r, attrs...)...)
}

// attrs returns the attributes of a line about a connection.
func (c *Conn) attrs(r role, attrs ...slog.Attr) []slog.Attr {
	attrs = append([]slog.Attr{slog.String("connection", c.cfg.Name)}, attrs...)
	if r == unassigned {
		return attrs
	}
	return append([]slog.Attr{slog.String("role", string(r))}, attrs...)
}

// logUp reports that a link has a session: at once, or when the link gets its role.
func (c *Conn) logUp(ctx context.Context, l *link, s *dial.Session) {
	c.mu.Lock()
	r := l.role
	if r == unassigned {
		l.unnamed = func(r role) { c.logConnected(ctx, r, s) }
	}
	c.mu.Unlock()
	if r != unassigned {
		c.logConnected(ctx, r, s)
	}
}

func (c *Conn) logConnected(ctx context.Context, r role, s *dial.Session) {
	version, _ := s.Properties["version"].(string)
	c.log(ctx, slog.LevelInfo, r, "amqpkit: connected", slog.String("url", s.URL), slog.String("broker", version))
}

// logLost warns of the loss of a session. If it repeats the previous loss, it is logged once a minute.
func (c *Conn) logLost(r role, s *dial.Session, err error, repeats bool) {
	kind := "lost " + string(r)
	if !repeats {
		c.repeated.Reset(kind)
	}
	c.repeated.Warn(c.ctx, c.cfg.Logger, kind, "amqpkit: connection lost", c.attrs(r, slog.String("url", s.URL), slog.Any("error", err))...)
}

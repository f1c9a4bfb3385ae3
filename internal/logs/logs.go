// Package logs holds the conventions of log lines: which Logger is used, and how often a warning is repeated.
//
// A message begins with the name of its package. The attribute keys are:
//
//   - connections: connection (its name), role (publishing, consuming or dedicated; left out while it is unknown), url, broker (the
//     version of RabbitMQ), sessions, expires
//   - messages: queue, consumer_tag, message_id, delivery_tag, offset, bytes, to (the queue or exchange that it goes to), dropped
//     (headers), attempt, delivery_count, default_limit
//   - reasons: error, reason (a text that is not an error), stack
//   - times: delay, took, unsettled, until, timeout, longest
//   - counts: messages, held, published, returned, nacked, unconfirmed, not_published, failures, set_aside, repeated (see [Limiter])
package logs

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"
)

// For returns configured, or the Logger of source if source has a method Logger() *slog.Logger, or slog.Default.
func For(configured *slog.Logger, source any) *slog.Logger {
	if configured == nil {
		if s, ok := source.(interface{ Logger() *slog.Logger }); ok {
			configured = s.Logger()
		}
	}
	return cmp.Or(configured, slog.Default())
}

// Interval is the time between two lines of one kind while their cause lasts.
const Interval = time.Minute

// A Limiter bounds how often warnings of one kind are logged. The zero value is ready to use.
type Limiter struct {
	mu    sync.Mutex
	kinds map[string]*count
}

type count struct {
	last    time.Time // when a line was logged last
	skipped int       // warnings since then
}

// Warn logs the first warning of a kind at once, and later ones at most once every [Interval]. The attribute repeated
// is the number of warnings that were not logged in between. kind must come from a small set of values. Warn reports
// whether it logged.
func (l *Limiter) Warn(ctx context.Context, logger *slog.Logger, kind, msg string, attrs ...slog.Attr) bool {
	skipped, ok := l.allow(kind)
	if !ok {
		return false
	}
	if skipped > 0 {
		attrs = append(attrs[:len(attrs):len(attrs)], slog.Int("repeated", skipped))
	}
	logger.LogAttrs(ctx, slog.LevelWarn, msg, attrs...)
	return true
}

// Reset makes the next warning of a kind appear at once. Call it when the cause is removed.
func (l *Limiter) Reset(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kinds, kind)
}

func (l *Limiter) allow(kind string) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	c := l.kinds[kind]
	switch {
	case c == nil:
		if l.kinds == nil {
			l.kinds = map[string]*count{}
		}
		l.kinds[kind] = &count{last: now}
		return 0, true
	case now.Sub(c.last) < Interval:
		c.skipped++
		return 0, false
	}
	skipped = c.skipped
	*c = count{last: now}
	return skipped, true
}

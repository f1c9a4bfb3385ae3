package consumer

import (
	"context"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit/internal/logs"
)

// A runState is the state that outlasts the sessions of a Run. It belongs to Run's goroutine, as they do; the dispatcher is
// shared with the workers.
type runState struct {
	cfg        Config
	log        *slog.Logger
	warnings   logs.Limiter
	shutdown   *shutdown
	dispatcher *dispatcher
	failures   failures // also outlasts the Run
	position   position // in a stream
	circles    burst    // messages that are requeued as soon as they are delivered
	noPassive  bool     // passive declares are refused
}

// ctx has the values of Run's ctx, as the ctx of the handlers has, so that log lines carry its trace id.
func (r *runState) ctx() context.Context { return r.shutdown.handlers }

// A burst counts events within ten seconds.
type burst struct {
	n     int
	since time.Time
}

// add counts an event and returns which one it is.
func (b *burst) add(now time.Time) int {
	if now.Sub(b.since) >= 10*time.Second {
		*b = burst{since: now}
	}
	b.n++
	return b.n
}

package consumer

import (
	"context"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit/internal/logs"
)

// A runState is the state of a Run that outlives its sessions. It is used only by Run's goroutine, except for the
// dispatcher, which is shared with the workers.
type runState struct {
	cfg          Config
	log          *slog.Logger
	warnings     logs.Limiter
	shutdown     *shutdown
	dispatcher   *dispatcher
	failures     failures // also outlives the Run
	position     position // used for streams only
	requeueLoops burst    // messages that are requeued as soon as they are delivered
	noPassive    bool     // passive declares are refused
}

// ctx returns a ctx with the values of Run's ctx, for log lines with its trace id.
func (r *runState) ctx() context.Context { return r.shutdown.handlers }

// A burst counts events within ten seconds.
type burst struct {
	n     int
	since time.Time
}

// add counts an event and returns its number.
func (b *burst) add(now time.Time) int {
	if now.Sub(b.since) >= 10*time.Second {
		*b = burst{since: now}
	}
	b.n++
	return b.n
}

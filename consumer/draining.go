package consumer

import (
	"context"
	"sync/atomic"
	"time"
)

type endingKey struct{}

// An ending is the shutdown of a Run, as its handlers see it.
type ending struct {
	begun <-chan struct{} // closed when it begins
	drain time.Duration
	last  atomic.Pointer[time.Time] // the end of the drain time; nil before it began
}

func (e *ending) begin() {
	last := time.Now().Add(e.drain)
	e.last.Store(&last)
}

// deadline is when the handlers' ctx ends, at the latest from now.
func (e *ending) deadline() time.Time {
	if last := e.last.Load(); last != nil {
		return *last
	}
	return time.Now().Add(e.drain)
}

// Draining returns a channel that is closed when the Run that owns a handler's ctx starts to shut down. Use it to
// stop idle waits: ctx itself is cancelled only after Config.DrainTimeout. For any other ctx the channel is nil.
func Draining(ctx context.Context) <-chan struct{} {
	if e, ok := ctx.Value(endingKey{}).(*ending); ok {
		return e.begun
	}
	return nil
}

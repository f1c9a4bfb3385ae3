package outbox

import (
	"context"
	"math/rand/v2"
	"time"
)

// A pause grows from 50 ms to 5 s with each failure in a row, with full jitter. The zero value is ready to use.
type pause struct{ failures int }

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

func (p *pause) reset() { p.failures = 0 }

func (p *pause) next() time.Duration {
	longest := min(firstPause<<min(p.failures, 10), lastPause)
	p.failures++
	return time.Millisecond + rand.N(longest)
}

// wait waits for the next pause and reports whether ctx has not ended.
func (p *pause) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(p.next()):
		return true
	}
}

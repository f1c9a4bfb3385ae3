package retry

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// BackOff returns a new backoff.BackOff that returns the policy's delays in order and then backoff.Stop: after
// MaxAttempts, beyond MaxAge (counted from this call or the last Reset), and at once for an invalid policy.
//
// One goroutine at a time may use it. The method value policy.BackOff is a factory: a func() backoff.BackOff.
func (p Policy) BackOff() backoff.BackOff {
	return &backOff{policy: p, start: time.Now()}
}

type backOff struct {
	policy Policy
	failed int // attempts
	start  time.Time
}

func (b *backOff) NextBackOff() time.Duration {
	d, ok := b.policy.Next(b.failed+1, time.Since(b.start))
	if !ok {
		return backoff.Stop
	}
	b.failed++
	return d
}

func (b *backOff) Reset() {
	b.failed, b.start = 0, time.Now()
}

package retry

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// BackOff returns a new backoff.BackOff that gives the policy's delays one after the other
// and then backoff.Stop: at the end of MaxAttempts, beyond MaxAge (counted from here or from
// the last Reset), and at once for a policy that Validate refuses. After Reset it begins
// again.
//
// Like the others of backoff/v4, a BackOff belongs to one goroutine. Where a factory is asked
// for, pass the method itself: policy.BackOff is a func() backoff.BackOff.
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

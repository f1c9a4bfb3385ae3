// Package retry decides whether a failed message is tried again, and when. A policy is a
// value that never retries for ever by accident. It keeps no state, because a message carries
// its own count of attempts, and so it means the same in every process:
//
//	policy := retry.Exponential(time.Second, time.Minute).MaxAge(time.Hour).Jitter(0.5)
//	if err := policy.Validate(); err != nil {
//		return err
//	}
//	delay, ok := policy.Next(attempt, age) // !ok: it is over, put the message aside
//
// Today the package holds the policies ([Exponential], [Schedule]) and the mark on errors
// that no retry can heal ([Permanent]). It moves no message yet: there is no delayed
// redelivery and no parking queue.
//
// A policy also serves wherever a backoff.BackOff of github.com/cenkalti/backoff/v4 is asked
// for: [Policy.BackOff] makes one.
package retry

package retry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
)

// maxDelay is RabbitMQ's limit on timers, about ten years.
const maxDelay = 315_360_000_000 * time.Millisecond

// A Policy is the schedule of the retries of a failed message: the delays between its attempts, and their number.
// [Exponential] and [Schedule] return a Policy. The methods MaxAttempts, MaxAge and Jitter return a changed copy. A Policy
// has no state: one value serves any number of messages and goroutines. The zero Policy is invalid and never retries.
type Policy struct {
	delays   []time.Duration // the last one repeats; never modified
	attempts int
	maxAge   time.Duration
	jitter   float64
	invalid  []error // invalid arguments of the constructor; delays is then empty
}

// Exponential returns a policy whose delay is initial after the first failure and doubles after each further
// failure, up to max. By default each of these delays is used once: Exponential(time.Second, time.Minute) waits
// 1, 2, 4, 8, 16, 32 and 60 seconds, which allows eight attempts. With a higher MaxAttempts, max repeats.
//
// Both are a whole number of milliseconds, from one millisecond to ten years (the unit and the limit of RabbitMQ's
// timers). max must not be less than initial.
func Exponential(initial, max time.Duration) Policy {
	invalid := slices.Concat(checkDelay("Exponential.initial", initial), checkDelay("Exponential.max", max))
	if len(invalid) == 0 && max < initial {
		invalid = append(invalid, fault("Exponential.max", fmt.Sprintf("%v is less than initial, %v", max, initial), "swap them"))
	}
	if len(invalid) > 0 {
		return Policy{invalid: invalid, attempts: 1}
	}
	var delays []time.Duration
	for d := initial; d < max; d *= 2 {
		delays = append(delays, d)
	}
	delays = append(delays, max)
	return Policy{delays: delays, attempts: len(delays) + 1}
}

// Schedule returns a policy with the given delays: delays[0] after the first failure, and so on. By default each delay is
// used once: Schedule(10*time.Second, time.Minute) makes two retries, three attempts in all. With a higher MaxAttempts, the last
// delay repeats.
//
// At least one delay is required. Each is a whole number of milliseconds, from one millisecond to ten years (the unit and
// the limit of RabbitMQ's timers). Delays may be in any order.
func Schedule(delays ...time.Duration) Policy {
	var invalid []error
	for i, d := range delays {
		invalid = append(invalid, checkDelay("Schedule["+strconv.Itoa(i)+"]", d)...)
	}
	if len(invalid) > 0 {
		return Policy{invalid: invalid, attempts: 1}
	}
	return Policy{delays: slices.Clone(delays), attempts: len(delays) + 1}
}

// MaxAttempts returns a copy of p that allows n attempts in all, including the first delivery: MaxAttempts(1) never
// retries. A smaller n drops the last delays of p, a larger n repeats the last delay. By default each delay is used once.
func (p Policy) MaxAttempts(n int) Policy {
	p.attempts = n
	return p
}

// MaxAge returns a copy of p that retries only if the full delay, before jitter, elapses within d of the first failure.
// Zero, the default, means no limit. d must not be less than the first delay.
func (p Policy) MaxAge(d time.Duration) Policy {
	p.maxAge = d
	return p
}

// Jitter returns a copy of p that shortens each delay at random by up to the fraction f, evenly distributed, so that messages that
// failed together do not return together. Zero, the default, means no jitter; one means full jitter, between zero and the full
// delay. Jitter never makes a delay longer, unlike the RandomizationFactor of backoff/v4, and does not change the number of retries.
func (p Policy) Jitter(f float64) Policy {
	p.jitter = f
	return p
}

// validate returns every invalid value of the policy at once, each as a *amqperr.FieldError.
func (p Policy) validate() error {
	errs := slices.Clip(p.invalid) // appending must not change another copy of the policy
	if len(p.delays) == 0 && len(p.invalid) == 0 {
		errs = append(errs, fault("Policy", "it has no delays", "give Schedule at least one, or use Exponential"))
	}
	if p.attempts < 1 {
		errs = append(errs, fault("MaxAttempts", fmt.Sprintf("%d is less than 1, the first delivery", p.attempts), "write 1 for no retry, or more"))
	}
	switch {
	case p.maxAge < 0:
		errs = append(errs, fault("MaxAge", fmt.Sprintf("%v is negative", p.maxAge), "write 0 for no limit"))
	case p.maxAge > 0 && len(p.delays) > 0 && p.maxAge < p.delays[0]:
		errs = append(errs, fault("MaxAge", fmt.Sprintf("%v is less than the first delay, %v: nothing would be retried", p.maxAge, p.delays[0]), "raise it"))
	}
	if !(p.jitter >= 0 && p.jitter <= 1) { // also NaN
		errs = append(errs, fault("Jitter", fmt.Sprintf("%v is not between 0 and 1", p.jitter), "write 0.5 for delays that are up to half shorter"))
	}
	return errors.Join(errs...)
}

// Next returns the delay after a failed attempt, and false if there is no further attempt. The first attempt is number 1. Age is the time
// since the first failure; a negative age (two hosts' clocks differ) counts as zero. The delay is a whole number of milliseconds, with
// full jitter possibly zero. Next returns false for an attempt below 1 and for an invalid policy.
func (p Policy) Next(attempt int, age time.Duration) (delay time.Duration, ok bool) {
	if attempt < 1 || attempt >= p.attempts || p.validate() != nil {
		return 0, false
	}
	d := p.delays[min(attempt, len(p.delays))-1]
	if p.tooOld(d, age) {
		return 0, false
	}
	return jittered(d, p.jitter, rand.Int64N), true
}

// tooOld reports whether a delay would end beyond the maximum age.
func (p Policy) tooOld(delay, age time.Duration) bool {
	return p.maxAge > 0 && delay > p.maxAge-max(age, 0)
}

// jittered shortens d at random by up to the fraction f. int64N returns a value from 0 up to, not including, its argument.
func jittered(d time.Duration, f float64, int64N func(int64) int64) time.Duration {
	if spread := int64(float64(d.Milliseconds()) * f); spread > 0 {
		d -= time.Duration(int64N(spread+1)) * time.Millisecond
	}
	return d
}

// String describes the policy: "10s, 1m0s ×3, then park; jitter 0.5; max age 1h0m0s".
func (p Policy) String() string {
	runs := p.runs()
	if len(runs) == 0 {
		return "park at once"
	}
	var b strings.Builder
	for _, r := range runs {
		b.WriteString(r.delay.String())
		if r.times > 1 {
			fmt.Fprintf(&b, " ×%d", r.times)
		}
		b.WriteString(", ")
	}
	b.WriteString("then park")
	if p.jitter > 0 {
		fmt.Fprintf(&b, "; jitter %v", p.jitter)
	}
	if p.maxAge > 0 {
		fmt.Fprintf(&b, "; max age %v", p.maxAge)
	}
	return b.String()
}

// A run is a delay that is used several times in a row.
type run struct {
	delay time.Duration
	times int
}

// runs returns the delays within the maximum number of attempts and the maximum age, in order of use.
func (p Policy) runs() []run {
	if p.validate() != nil {
		return nil
	}
	var runs []run
	retries := p.attempts - 1
	for i, d := range p.delays {
		if i == retries || p.tooOld(d, 0) {
			break
		}
		times := 1
		if i == len(p.delays)-1 {
			times = retries - i
		}
		if n := len(runs); n > 0 && runs[n-1].delay == d {
			runs[n-1].times += times
		} else {
			runs = append(runs, run{d, times})
		}
	}
	return runs
}

func checkDelay(field string, d time.Duration) []error {
	switch {
	case d <= 0:
		return []error{fault(field, fmt.Sprintf("%v is not positive", d), "write at least a millisecond")}
	case d > maxDelay:
		return []error{fault(field, fmt.Sprintf("%v is longer than ten years, RabbitMQ's limit on timers", d), "write a shorter delay")}
	case d%time.Millisecond != 0:
		return []error{fault(field, fmt.Sprintf("%v is not a whole number of milliseconds", d), "round it: RabbitMQ's timers count milliseconds")}
	}
	return nil
}

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "retry", Field: field, Problem: problem, Fix: fix}
}

package retry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

const maxDelay = validate.MaxTimer

// A Policy is the schedule of the retries of a failed message: the delays between its attempts, and their number.
// [Exponential] and [Schedule] return a Policy. The methods MaxAttempts, MaxAge and Jitter return a changed copy. A Policy
// has no state: one value serves any number of messages and goroutines. The zero Policy is invalid and never retries.
type Policy struct {
	delays   []time.Duration // the last one repeats; never modified
	bounds   bool            // the delays are the invalid arguments of Exponential
	attempts int
	maxAge   time.Duration
	jitter   float64
}

// Exponential returns a policy whose delay is initial after the first failure and doubles after each further
// failure, up to max. By default each of these delays is used once: Exponential(time.Second, time.Minute) waits
// 1, 2, 4, 8, 16, 32 and 60 seconds, which allows eight attempts. With a higher MaxAttempts, max repeats.
//
// max must not be less than initial. See Schedule for the limits of both.
func Exponential(initial, max time.Duration) Policy {
	p := Schedule(initial, max)
	if p.bounds = true; p.validate("") != nil {
		return p
	}
	var delays []time.Duration
	for d := initial; d < max; d *= 2 {
		delays = append(delays, d)
	}
	return Schedule(append(delays, max)...)
}

// Schedule returns a policy with the given delays: delays[0] after the first failure, and so on. By default each delay is used once:
// Schedule(10*time.Second, time.Minute) makes two retries, three attempts in all. With a higher MaxAttempts, the last delay repeats.
//
// At least one delay is required, in any order. Each is a whole number of milliseconds, from one millisecond to ten years (the unit and
// the limit of RabbitMQ's timers).
func Schedule(delays ...time.Duration) Policy {
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

// validate returns every invalid value of the policy at once, each as a *amqperr.FieldError. The policy is the value of the field.
func (p Policy) validate(field string) error {
	var errs []error
	wrong := func(part, problem, fix string) { errs = append(errs, fault(field+part, problem, fix)) }
	if len(p.delays) == 0 {
		wrong("", "has no delays", "make it with Exponential, or with Schedule and at least one delay")
	}
	for i, d := range p.delays {
		invalid := func(problem, fix string) {
			part := fmt.Sprintf(".Delays[%d]", i)
			if p.bounds {
				part = [...]string{".initial", ".max"}[i]
			}
			wrong(part, fmt.Sprintf("%v %s", d, problem), fix)
		}
		switch {
		case d <= 0:
			invalid("is not positive", "write at least a millisecond")
		case d > maxDelay:
			invalid("is longer than ten years, RabbitMQ's limit on timers", "write a shorter delay")
		case d%time.Millisecond != 0:
			invalid("is not a whole number of milliseconds", "round it: RabbitMQ's timers count milliseconds")
		case p.bounds && d < p.delays[0]:
			invalid("is less than initial", "write at least "+p.delays[0].String())
		}
	}
	if p.attempts < 1 && len(p.delays) > 0 {
		wrong(".MaxAttempts", fmt.Sprintf("%d is less than 1, the first delivery", p.attempts), "write 1 for no retry, or more")
	}
	if p.maxAge < 0 || p.maxAge > 0 && len(p.delays) > 0 && p.maxAge < p.delays[0] {
		wrong(".MaxAge", fmt.Sprintf("%v is less than the first delay: nothing would be retried", p.maxAge), "raise it, or write 0 for no limit")
	}
	if !(p.jitter >= 0 && p.jitter <= 1) { // also NaN
		wrong(".Jitter", fmt.Sprintf("%v is not between 0 and 1", p.jitter), "write 0.5 for delays that are up to half shorter")
	}
	return errors.Join(errs...)
}

// Next returns the delay after a failed attempt, and false if there is no further attempt. The first attempt is number 1. Age is the time
// since the first failure; a negative age (two hosts' clocks differ) counts as zero. The delay is a whole number of milliseconds, with
// full jitter possibly zero. Next returns false for an attempt below 1 and for an invalid policy.
func (p Policy) Next(attempt int, age time.Duration) (delay time.Duration, ok bool) {
	if attempt < 1 || attempt >= p.attempts || p.validate("") != nil {
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

// reachable yields the delays within the maximum number of attempts and the maximum age, and how often each is used.
func (p Policy) reachable(yield func(d time.Duration, times int) bool) {
	if p.validate("") != nil {
		return
	}
	for i, d := range p.delays {
		times := 1
		if i == len(p.delays)-1 {
			times = p.attempts - len(p.delays)
		}
		if i >= p.attempts-1 || p.tooOld(d, 0) || !yield(d, times) {
			return
		}
	}
}

// String describes the policy: "10s, 1m0s ×3, then park; jitter 0.5; max age 1h0m0s".
func (p Policy) String() string {
	var b strings.Builder
	for d, times := range p.reachable {
		b.WriteString(d.String())
		if times > 1 {
			fmt.Fprintf(&b, " ×%d", times)
		}
		b.WriteString(", ")
	}
	if b.Len() == 0 {
		return "park at once"
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

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "retry", Field: field, Problem: problem, Fix: fix}
}

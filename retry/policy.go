package retry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

const maxDelay = validate.MaxTimer

// maxSteps bounds the delays that Linear makes.
const maxSteps = 1000

// A Policy says after which delays a failed message is tried again, and when it is over.
// [Exponential], [Linear] and [Schedule] make one; its methods MaxAttempts, MaxAge and Jitter return a
// changed copy. A Policy holds no state, so one value serves any number of messages and
// goroutines. The zero Policy is refused by Validate and never retries.
type Policy struct {
	delays   []time.Duration // the last one repeats; never modified
	attempts int
	maxAge   time.Duration
	jitter   float64
	faults   []error // what was wrong with the constructor's arguments; delays is then empty
}

// Exponential returns a policy whose delay is initial after the first failure and doubles
// with each further one until it reaches max. By default each of these delays is used once:
// Exponential(time.Second, time.Minute) waits 1, 2, 4, 8, 16, 32 and 60 seconds, which makes
// eight attempts. With a higher MaxAttempts, max repeats.
//
// Both are whole milliseconds, at least one and at most ten years (the unit and the limit of
// RabbitMQ's timers), and max is not less than initial.
func Exponential(initial, max time.Duration) Policy {
	faults := slices.Concat(
		checkDelay("Exponential.initial", initial),
		checkDelay("Exponential.max", max),
	)
	if len(faults) == 0 && max < initial {
		faults = append(faults, fault("Exponential.max", fmt.Sprintf("%v is less than initial, %v", max, initial), "swap them"))
	}
	if len(faults) > 0 {
		return Policy{faults: faults, attempts: 1}
	}
	b := &backoff.ExponentialBackOff{
		InitialInterval: initial,
		MaxInterval:     max,
		Multiplier:      2,
		Clock:           backoff.SystemClock,
	}
	b.Reset()
	delays := []time.Duration{b.NextBackOff()}
	for delays[len(delays)-1] < max {
		delays = append(delays, b.NextBackOff())
	}
	return Policy{delays: delays, attempts: len(delays) + 1}
}

// Schedule returns a policy with the given delays: delays[0] after the first failure, and so
// on. By default each is used once: Schedule(10*time.Second, time.Minute) makes two retries,
// three attempts in all. With a higher MaxAttempts, the last delay repeats.
//
// There is at least one delay, each a whole number of milliseconds, at least one and at most
// ten years (the unit and the limit of RabbitMQ's timers). They need not grow.
func Schedule(delays ...time.Duration) Policy {
	var faults []error
	for i, d := range delays {
		faults = append(faults, checkDelay("Schedule["+strconv.Itoa(i)+"]", d)...)
	}
	if len(faults) > 0 {
		return Policy{faults: faults, attempts: 1}
	}
	return Policy{delays: slices.Clone(delays), attempts: len(delays) + 1}
}

// Linear returns a policy whose delay is step after the first failure and longer by step with each further
// one until it reaches max. By default each of these delays is used once: Linear(time.Minute, 5*time.Minute)
// waits 1, 2, 3, 4 and 5 minutes, which makes six attempts. With a higher MaxAttempts, max repeats.
//
// It is the only growth that a quorum queue's own delayed retry knows, see Config.Native. The bounds are those of
// Exponential, and there are at most 1,000 delays.
func Linear(step, max time.Duration) Policy {
	faults := slices.Concat(checkDelay("Linear.step", step), checkDelay("Linear.max", max))
	switch {
	case len(faults) > 0:
	case max < step:
		faults = append(faults, fault("Linear.max", fmt.Sprintf("%v is less than step, %v", max, step), "swap them"))
	case max/step > maxSteps:
		faults = append(faults, fault("Linear.step", fmt.Sprintf("%v is less than a thousandth of max, %v", step, max), "raise it"))
	}
	if len(faults) > 0 {
		return Policy{faults: faults, attempts: 1}
	}
	var delays []time.Duration
	for d := step; d < max; d += step {
		delays = append(delays, d)
	}
	delays = append(delays, max)
	return Policy{delays: delays, attempts: len(delays) + 1}
}

// MaxAttempts returns a copy of p that tries a message n times in all, the first delivery
// included, so that MaxAttempts(1) never retries. Below the number of delays plus one it
// leaves out the last delays, above it the last delay repeats. The default is each delay once.
func (p Policy) MaxAttempts(n int) Policy {
	p.attempts = n
	return p
}

// MaxAge returns a copy of p that retries only where the full delay, before jitter, ends while
// the message is no older than d. Zero, the default, means no limit. It is not less than
// the first delay, which would leave nothing to retry.
func (p Policy) MaxAge(d time.Duration) Policy {
	p.maxAge = d
	return p
}

// Jitter returns a copy of p that shortens each delay at random by up to the fraction f of it,
// evenly spread, so that messages that failed together do not return together. Zero, the
// default, means none; 1 is full jitter, anything from nothing to the full delay.
//
// Jitter never makes a delay longer, unlike the RandomizationFactor of backoff/v4: a delay
// stays within its tier and its limit. It does not decide whether there is a retry.
func (p Policy) Jitter(f float64) Policy {
	p.jitter = f
	return p
}

// Validate returns every fault of the policy at once, each a [*amqperr.FieldError], or nil.
func (p Policy) Validate() error {
	faults := slices.Clip(p.faults) // appending must not reach into another copy of the policy
	if len(p.delays) == 0 && len(p.faults) == 0 {
		faults = append(faults, fault("Policy", "it has no delays", "give Schedule at least one, or use Exponential"))
	}
	if p.attempts < 1 {
		faults = append(faults, fault("MaxAttempts", fmt.Sprintf("%d is less than 1, the first delivery", p.attempts), "write 1 for no retry, or more"))
	}
	switch {
	case p.maxAge < 0:
		faults = append(faults, fault("MaxAge", fmt.Sprintf("%v is negative", p.maxAge), "write 0 for no limit"))
	case p.maxAge > 0 && len(p.delays) > 0 && p.maxAge < p.delays[0]:
		faults = append(faults, fault("MaxAge", fmt.Sprintf("%v is less than the first delay, %v: nothing would be retried", p.maxAge, p.delays[0]), "raise it"))
	}
	if !(p.jitter >= 0 && p.jitter <= 1) { // NaN too
		faults = append(faults, fault("Jitter", fmt.Sprintf("%v is not between 0 and 1", p.jitter), "write 0.5 for delays that are up to half shorter"))
	}
	return errors.Join(faults...)
}

// Next returns how long to wait after a message's attempt failed, or ok false where there is
// to be no further one. The first attempt is number 1. Age is the time since the message's
// first delivery, or since whatever event its owner counts from; a negative one (two hosts'
// clocks differ) counts as zero.
//
// The delay is a whole number of milliseconds. With full jitter it may be zero. It is over
// for an attempt below 1, which is no count, and for every policy that Validate refuses.
func (p Policy) Next(attempt int, age time.Duration) (delay time.Duration, ok bool) {
	return p.next(attempt, age, rand.Int64N)
}

// next is Next with its source of randomness: int64N returns a value from 0 up to, not
// including, its argument.
func (p Policy) next(attempt int, age time.Duration, int64N func(int64) int64) (time.Duration, bool) {
	if attempt < 1 || attempt >= p.attempts || p.Validate() != nil {
		return 0, false
	}
	d := p.delays[min(attempt, len(p.delays))-1]
	if p.maxAge > 0 && d > p.maxAge-max(age, 0) {
		return 0, false
	}
	return jittered(d, p.jitter, int64N), true
}

// jittered shortens d at random by up to the fraction f of it.
func jittered(d time.Duration, f float64, int64N func(int64) int64) time.Duration {
	if spread := int64(float64(d.Milliseconds()) * f); spread > 0 {
		d -= time.Duration(int64N(spread+1)) * time.Millisecond
	}
	return d
}

// Delays returns the tiers of the policy: the different delays before jitter that
// MaxAttempts and MaxAge leave within reach, in order of first use. It is empty where nothing
// is retried. The caller owns the slice.
func (p Policy) Delays() []time.Duration {
	var tiers []time.Duration
	for _, r := range p.runs() {
		if !slices.Contains(tiers, r.delay) {
			tiers = append(tiers, r.delay)
		}
	}
	return tiers
}

// String describes the policy for people: "10s, 1m0s ×3, then park (jitter 0.5, max age 1h0m0s)".
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
	var notes []string
	if p.jitter > 0 {
		notes = append(notes, fmt.Sprintf("jitter %v", p.jitter))
	}
	if p.maxAge > 0 {
		notes = append(notes, fmt.Sprintf("max age %v", p.maxAge))
	}
	if len(notes) > 0 {
		b.WriteString(" (" + strings.Join(notes, ", ") + ")")
	}
	return b.String()
}

// A run is a delay used several times in a row.
type run struct {
	delay time.Duration
	times int
}

// runs returns the delays within reach in order of use.
func (p Policy) runs() []run {
	if p.Validate() != nil {
		return nil
	}
	var runs []run
	retries := p.attempts - 1
	for i, d := range p.delays {
		if i == retries || p.maxAge > 0 && d > p.maxAge {
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

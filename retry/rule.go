package retry

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// An Action is what a [Rule] does: a [Policy], [Park] or [Discard].
type Action interface{ action() string }

// A Disposal is an end without retry.
type Disposal int

// The ends without retry.
const (
	Park    Disposal = iota + 1 // into the parking queue, at once
	Discard                     // acknowledged and gone
)

func (d Disposal) action() string {
	switch d {
	case Park:
		return "park at once"
	case Discard:
		return "discard"
	}
	return ""
}

func (p Policy) action() string { return p.String() }

// A Rule says what to do about certain errors. [OnError], [OnType] and [When] make one.
//
// Attempts are counted for a message, whatever it failed of: when the third attempt is the
// first to fail of a rule's errors, the rule's policy goes on with its third delay.
type Rule struct {
	name   string
	match  func(error) bool
	action Action
}

// OnError is a Rule for target and errors that wrap it, as errors.Is has it.
func OnError(target error, do Action) Rule {
	if target == nil {
		return Rule{action: do}
	}
	return Rule{name: target.Error(), match: func(err error) bool { return errors.Is(err, target) }, action: do}
}

// OnType is a Rule for errors of type E and errors that wrap one, as errors.As has it.
func OnType[E error](do Action) Rule {
	return Rule{name: reflect.TypeFor[E]().String(), match: func(err error) bool {
		var e E
		return errors.As(err, &e)
	}, action: do}
}

// When is a Rule for the errors that match says; the name is for people. Match must be quick.
func When(name string, match func(error) bool, do Action) Rule {
	return Rule{name: name, match: match, action: do}
}

func (r Rule) validate(field string) error {
	var errs []error
	if r.match == nil {
		errs = append(errs, fault(field, "matches nothing", "make it with OnError, OnType or When"))
	}
	switch a := r.action.(type) {
	case Policy:
		if err := a.Validate(); err != nil {
			errs = append(errs, fault(field, "its policy is wrong: "+err.Error(), ""))
		}
	case Disposal:
		if a.action() == "" {
			errs = append(errs, fault(field, fmt.Sprintf("Disposal(%d) is unknown", a), "use Park or Discard"))
		}
	default:
		errs = append(errs, fault(field, "has no action", "give it a Policy, Park or Discard"))
	}
	return errors.Join(errs...)
}

// An AfterError is the result that [After] makes.
type AfterError struct {
	Delay time.Duration
	Err   error // never nil
}

// After returns a handler's result that failed with err and is to be tried again after d
// instead of the policy's delay, as a Retry-After header asks for. It counts as an attempt as
// any other: the policy still says how many there are, and the age at which it is over.
//
// The wait consists of stays in the plan's wait queues, one after another. It is never shorter than d, and longer by a quarter
// or by the shortest delay at most. It is at most 16 times the longest delay of the plan. A plan without wait
// queues waits at most Config.MaxInProcessDelay each time, and ten minutes in all. A message that asks for more is parked, with the reason
// "after". After of nil is nil.
func After(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &AfterError{Delay: d, Err: err}
}

func (e *AfterError) Error() string { return fmt.Sprintf("%v (again after %v)", e.Err, e.Delay) }

// Unwrap returns the failure.
func (e *AfterError) Unwrap() error { return e.Err }

package retry

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// An Action decides about a message whose handler failed: a [Policy], [Park] or [Discard].
type Action interface{ action() string }

// Actions without a retry.
var (
	Park    Action = final("park at once") // moves the message to the parking queue
	Discard Action = final("discard")      // acknowledges the message, which removes it
)

type final string

func (f final) action() string  { return string(f) }
func (p Policy) action() string { return p.String() }

// A Rule selects the Action for certain errors. [OnError], [OnType] and [When] return a Rule. Attempts are counted for each message and
// not for each rule: if the third attempt is the first to fail with an error of the rule, its policy starts with the third delay.
type Rule struct {
	name   string
	match  func(error) bool
	action Action
}

// OnError returns a Rule for target and for errors that wrap it, as reported by errors.Is.
func OnError(target error, do Action) Rule {
	if target == nil {
		return Rule{action: do}
	}
	return Rule{name: target.Error(), match: func(err error) bool { return errors.Is(err, target) }, action: do}
}

// OnType returns a Rule for errors of type E and for errors that wrap one, as reported by errors.As.
func OnType[E error](do Action) Rule {
	return Rule{name: reflect.TypeFor[E]().String(), match: func(err error) bool {
		var e E
		return errors.As(err, &e)
	}, action: do}
}

// When returns a Rule for the errors for which match returns true, which must be quick. The name appears in [Plan.String].
func When(name string, match func(error) bool, do Action) Rule {
	return Rule{name: name, match: match, action: do}
}

// matches reports whether the rule applies to err. It returns false if the rule's function panics.
func (r Rule) matches(err error) (matched bool) {
	defer func() { _ = recover() }()
	return r.match(err)
}

// After returns a handler's result that reports err and asks for the next attempt after d instead of the policy's delay, for example
// because of a Retry-After header. The policy still limits the number of attempts and the age. After returns nil if err is nil.
//
// The message waits in the plan's wait queues, in several of them if necessary. The wait is never shorter than d, and at
// most a quarter of d or the shortest delay of the plan longer. The limit for d is 16 times the plan's longest delay. Without wait
// queues it is Config.MaxInProcessDelay, and ten minutes for all such waits of a delivery. Beyond the limit the message
// is parked with the reason "after".
func After(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &afterError{delay: max(d, 0), err: err}
}

type afterError struct {
	delay time.Duration
	err   error // never nil
}

func (e *afterError) Error() string { return fmt.Sprintf("%v (again after %v)", e.err, e.delay) }
func (e *afterError) Unwrap() error { return e.err }

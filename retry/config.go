package retry

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/topology"
)

const (
	jitterSteps  = 4                // wait queues that share one jittered delay
	maxTiers     = 64               // wait queues of a plan
	maxStays     = 16               // in the longest wait queue, for one After
	maxInProcess = 10 * time.Minute // of waiting in the worker for each delivery: a third of the default consumer timeout
)

// Config describes how the failed messages of a queue are retried and parked. Queue and Policy are required.
type Config struct {
	// Queue is the name of the queue whose consumers use the plan. The queue may exist already: it needs no special arguments.
	Queue string

	// Policy applies to errors that match no rule.
	Policy Policy

	// Rules apply to certain errors. The first rule that matches is used.
	Rules []Rule

	// MaxInProcessDelay is the longest delay for which the worker keeps the message; longer delays use wait queues. That avoids two moves,
	// and keeps back later messages with the same key (consumer.Config.Key). If the connection is lost, the attempts since the delivery
	// are repeated. These delays of a policy must not exceed ten minutes in all, a third of RabbitMQ's default consumer timeout. Zero means
	// that all delays use wait queues.
	MaxInProcessDelay time.Duration

	// Source is the queue itself, if the plan is to declare it. Its Name is Queue or empty. Without a DeadLetter it dead-letters to the
	// parking queue: messages that reach the delivery limit, expire, or are rejected without the middleware are parked too. Nil
	// means that the queue is declared elsewhere, and Declare only verifies that it exists.
	Source *topology.Queue

	// MoveTimeout is the maximum duration of a move to a wait queue or the parking queue, including a lost connection.
	// Afterwards the message is requeued and its attempt is repeated. If RabbitMQ accepted the move nevertheless, there are two copies.
	// At least a second; zero means 30 seconds.
	MoveTimeout time.Duration

	// Logger logs failed messages, without their bodies and headers. Nil means the Logger of the Publisher, if it has a
	// method Logger, or slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.MoveTimeout = cmp.Or(c.MoveTimeout, 30*time.Second)
	c.Rules = slices.Clone(c.Rules)
	return c
}

// validate reports every invalid field of a Config with defaults.
func (c Config) validate() error {
	var errs []error
	wrong := func(field, problem, fix string) { errs = append(errs, fault(field, problem, fix)) }
	if p := validate.Name(c.Queue); p != nil {
		wrong("Queue", p.Problem, p.Fix)
	} else if c.Queue == "" {
		wrong("Queue", "is empty", "name the queue whose consumers use the plan")
	}
	errs = append(errs, c.Policy.validate("Policy"))
	for i, r := range c.Rules {
		field := fmt.Sprintf("Rules[%d]", i)
		if r.match == nil {
			wrong(field, "matches nothing", "make it with OnError, OnType or When")
		}
		if r.action == nil {
			wrong(field, "has no action", "give it a Policy, Park or Discard")
		}
		if p, ok := r.action.(Policy); ok {
			errs = append(errs, p.validate(field+".Policy"))
		}
	}
	if c.MaxInProcessDelay < 0 {
		wrong("MaxInProcessDelay", fmt.Sprintf("%v is negative", c.MaxInProcessDelay), "write 0 to use wait queues for all delays")
	}
	for _, p := range c.policies() {
		if c.waitsTooLong(p) {
			wrong("MaxInProcessDelay", fmt.Sprintf("the policy %v would keep a message in its worker for more than %v, and RabbitMQ requeues it after the consumer timeout, by default 30m", p, maxInProcess),
				"lower it, so that longer delays use wait queues")
		}
	}
	if n := len(c.tiers()); n > maxTiers {
		wrong("Policy", fmt.Sprintf("%d wait queues would be needed, and each costs memory on every node; the limit is %d", n, maxTiers), "use fewer different delays, or less jitter")
	}
	if c.MoveTimeout < time.Second {
		wrong("MoveTimeout", fmt.Sprintf("%v is less than a second: each move without an answer may leave a copy", c.MoveTimeout), "write 0 for 30s")
	}
	if s := c.Source; s != nil {
		if s.Name != "" && s.Name != c.Queue {
			wrong("Source.Name", fmt.Sprintf("%q is not Queue, %q", s.Name, c.Queue), "leave it empty")
		}
		if s.Type == topology.Stream {
			wrong("Source.Type", "a message cannot be moved out of a stream", "use topology.Quorum")
		}
	}
	return errors.Join(errs...)
}

// policies returns all policies of the plan, the default one first.
func (c Config) policies() []Policy {
	all := []Policy{c.Policy}
	for _, r := range c.Rules {
		if p, ok := r.action.(Policy); ok {
			all = append(all, p)
		}
	}
	return all
}

// waitsTooLong reports whether the delays of a policy that are waited for in the worker exceed the limit.
func (c Config) waitsTooLong(p Policy) bool {
	var total float64 // a Duration could overflow
	for d, times := range p.reachable {
		if d <= c.MaxInProcessDelay {
			total += float64(d) * float64(times)
		}
	}
	return total > float64(maxInProcess)
}

// tiers returns the delays that need a wait queue, the shortest first. It includes delays after one that exceeds
// MaxAge: the policy of a rule may have used that attempt.
func (c Config) tiers() []time.Duration {
	var tiers []time.Duration
	for _, p := range c.policies() {
		for i, d := range p.delays {
			if i < p.attempts-1 && !p.tooOld(d, 0) && d > c.MaxInProcessDelay {
				tiers = append(tiers, spread(d, p.jitter)...)
			}
		}
	}
	slices.Sort(tiers)
	return slices.Compact(tiers)
}

// spread returns the tiers that share a delay: the delay itself without jitter, else equal steps within the
// jitter. A wait queue has one delay for all its messages, so that jitter is a choice of queues.
func spread(d time.Duration, jitter float64) []time.Duration {
	tiers := []time.Duration{d}
	for i := 1; i < jitterSteps; i++ {
		off := time.Duration(float64(d) * jitter * float64(i) / jitterSteps).Truncate(time.Millisecond)
		if t := d - off; t < tiers[len(tiers)-1] {
			tiers = append(tiers, t)
		}
	}
	return tiers
}

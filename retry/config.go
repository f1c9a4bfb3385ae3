package retry

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/topology"
)

const (
	jitterSteps  = 4                // wait queues that share one jittered delay
	maxTiers     = 64               // wait queues of a plan
	maxMoves     = 16               // stays in the longest wait queue, one after another, for an After
	maxInProcess = 10 * time.Minute // that a delivery may be held, a third of the default consumer timeout
)

// Config says what becomes of the failed messages of a queue. Queue and Policy are required.
type Config struct {
	// Queue is the queue whose consumers fail. It may exist already: it needs no argument of
	// its own.
	Queue string

	// Policy is for every error that no rule is for.
	Policy Policy

	// Rules are for certain errors; the first that matches holds.
	Rules []Rule

	// MaxInProcessDelay is how long a delay may be to be waited out by the handler's worker, without a
	// trip through a queue, holding back its key if Config.Key of the consumer orders by one.
	// Longer delays use wait queues. If the connection is lost meanwhile, these attempts are made
	// again. Zero means none; all such delays of a message are at most ten minutes together,
	// well within RabbitMQ's consumer timeout of 30. Longer delays that After asks for are waited in queues; a plan
	// without wait queues parks the message.
	MaxInProcessDelay time.Duration

	// Source, if set, is declared along with the plan; its name is Queue, or empty. Where it has no
	// DeadLetter, that becomes the parking queue: what reaches the delivery limit, expires, or is rejected
	// without the middleware, is parked as well. Without Source the queue is declared elsewhere, and
	// only looked for.
	Source *topology.Queue

	// Native has the source queue itself delay what failed, as a quorum queue of RabbitMQ 4.3 and newer can:
	// there is no trip through a wait queue, and the message keeps its place in RabbitMQ's counts. It needs Source, and
	// a policy of growing by the same step (Linear, or one delay). RabbitMQ's count, which stands for
	// the attempts, also rises for every unacknowledged message of a lost connection, and for what the shutdown of a consumer with
	// an order to keep returns unhandled. So a message may fail for good sooner than the policy says, but not before its handler
	// has failed. Only when the count exceeds the attempts by 20, as of a message that ends the process, is it parked unhandled with
	// the reason "redelivered", and a warning names it. After waits no other time than the policy's, and of a parked message's failures only the last is known.
	Native bool

	// MoveTimeout is how long a move to the wait or parking queue may take, a lost connection
	// included. After it the message is requeued in its own queue, and the attempt is repeated; a later confirm leaves a second
	// copy. At least a second; zero means 30 seconds.
	MoveTimeout time.Duration

	// Logger receives what happens to failed messages. Nil means slog.Default(). Bodies and
	// headers are never logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MoveTimeout == 0 {
		c.MoveTimeout = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// validate reports every wrong field of a Config with defaults.
func (c Config) validate() error {
	var errs []error
	wrong := func(field, problem, fix string) { errs = append(errs, fault(field, problem, fix)) }
	if p := validate.Name(c.Queue); p != nil {
		wrong("Queue", p.Problem, p.Fix)
	} else if c.Queue == "" {
		wrong("Queue", "is empty", "name the queue whose consumers fail")
	}
	errs = append(errs, c.Policy.Validate())
	for i, r := range c.Rules {
		errs = append(errs, r.validate(fmt.Sprintf("Rules[%d]", i)))
	}
	switch held := c.held(); {
	case c.MaxInProcessDelay < 0:
		wrong("MaxInProcessDelay", fmt.Sprintf("%v is negative", c.MaxInProcessDelay), "write 0 to wait in queues always")
	case held > maxInProcess:
		wrong("MaxInProcessDelay", fmt.Sprintf("a message would be held for %v in all, and RabbitMQ takes it back after its consumer timeout, 30m by default", held),
			"lower it, so that the longer delays are waited in queues")
	}
	if c.MoveTimeout < time.Second {
		wrong("MoveTimeout", fmt.Sprintf("%v is less than a second: each hop that is given up may leave a copy", c.MoveTimeout), "write 0 for 30s")
	}
	if s := c.Source; s != nil {
		if s.Name != "" && s.Name != c.Queue {
			wrong("Source.Name", fmt.Sprintf("%q is not Queue, %q", s.Name, c.Queue), "leave it empty")
		}
		if s.Type == topology.Stream {
			wrong("Source.Type", "a stream keeps what was consumed: nothing can leave it for a wait queue", "use topology.Quorum")
		}
	}
	if c.Native {
		errs = append(errs, c.validateNative()...)
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

// held is the longest time that delays in the process may take together.
func (c Config) held() time.Duration {
	var longest time.Duration
	for _, p := range c.policies() {
		var held time.Duration
		for _, r := range p.runs() {
			if r.delay > c.MaxInProcessDelay {
				continue
			}
			if r.times > int(maxInProcess/r.delay) {
				return maxInProcess + r.delay
			}
			held += time.Duration(r.times) * r.delay
		}
		longest = max(longest, held)
	}
	return longest
}

// tiers returns the delays that a wait queue is needed for, the shortest first. A delay beyond one that MaxAge forbids is among
// them: the policy of a rule may have led past that one.
func (c Config) tiers() []time.Duration {
	var tiers []time.Duration
	if c.Native {
		return nil
	}
	for _, p := range c.policies() {
		for i, d := range p.delays {
			if i >= p.attempts-1 || p.maxAge > 0 && d > p.maxAge {
				continue
			}
			if d > c.MaxInProcessDelay {
				tiers = append(tiers, spread(d, p.jitter)...)
			}
		}
	}
	slices.Sort(tiers)
	return slices.Compact(tiers)
}

// spread returns the tiers that share a delay: itself without jitter, else steps of equal
// distance within the jitter. A queue has one delay for all that it holds, so that jitter can
// only be a choice of queues.
func spread(d time.Duration, jitter float64) []time.Duration {
	tiers := []time.Duration{d}
	if jitter == 0 {
		return tiers
	}
	for i := 1; i < jitterSteps; i++ {
		off := time.Duration(float64(d) * jitter * float64(i) / jitterSteps).Truncate(time.Millisecond)
		if t := d - off; t < tiers[len(tiers)-1] {
			tiers = append(tiers, t)
		}
	}
	return tiers
}

// hostname is where this program runs, or "".
func hostname() string {
	name, _ := os.Hostname()
	return name
}

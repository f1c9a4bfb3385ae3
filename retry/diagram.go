package retry

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/amqpkit/amqpkit/internal/history"
)

// String describes the plan for people: what is done about which errors, how delays are waited out and why that
// way, and a diagram of the queues.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "retry plan for queue %s\n", p.cfg.Queue)
	for _, r := range p.cfg.Rules {
		fmt.Fprintf(&b, "  %s: %s\n", r.name, r.action.action())
	}
	fmt.Fprintf(&b, "  any error: %s\n", p.cfg.Policy)
	fmt.Fprintf(&b, "  permanent, rejected: park at once\n")
	if d := p.cfg.MaxInProcessDelay; d > 0 {
		fmt.Fprintf(&b, "\nup to %s: waited in the process, since it is short; a lost connection repeats these attempts\n", history.Short(d))
	}
	if len(p.tiers) > 0 {
		longer := ""
		if p.cfg.MaxInProcessDelay > 0 {
			longer = "longer: "
		}
		fmt.Fprintf(&b, "\n%swaited in queues, one for each delay: each copy keeps to the policy, and\nnothing waits behind a failed message; needs RabbitMQ 4.0\n", longer)
	}
	if p.cfg.Native {
		b.WriteString("\nwaited in the queue itself, as Config.Native chose: no trip through another queue; a lost connection\ncounts as an attempt, but parks nothing by itself; needs RabbitMQ 4.3 and a quorum queue\n")
	}
	if p.jitters() {
		fmt.Fprintf(&b, "jitter: one of %d queues at random\n", jitterSteps)
	}
	b.WriteString("\n")
	p.draw(&b)
	return b.String()
}

// jitters tells whether any delay is spread over several wait queues.
func (p *Plan) jitters() bool {
	return slices.ContainsFunc(p.cfg.policies(), func(policy Policy) bool {
		return slices.ContainsFunc(policy.Delays(), func(d time.Duration) bool {
			return d > p.cfg.MaxInProcessDelay && len(spread(d, policy.jitter)) > 1
		})
	})
}

// draw draws the queues, the source on the left.
func (p *Plan) draw(b *strings.Builder) {
	width := utf8.RuneCountInString(p.ParkingQueue())
	for _, d := range p.tiers {
		width = max(width, utf8.RuneCountInString(history.WaitQueue(p.cfg.Queue, d)))
	}
	left := p.cfg.Queue
	arrow := func(to, back string) {
		line := fmt.Sprintf("  %s ──▶ %-*s%s", left, width, to, back)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		left = strings.Repeat(" ", utf8.RuneCountInString(p.cfg.Queue))
	}
	for _, d := range p.tiers {
		arrow(history.WaitQueue(p.cfg.Queue, d), fmt.Sprintf(" ── %s ──▶ %s", history.Short(d), p.cfg.Queue))
	}
	if p.cfg.Native {
		arrow(p.cfg.Queue, fmt.Sprintf(" (again, after %s)", p.waits()))
	}
	arrow(p.ParkingQueue(), "")
}

// waits are the delays of a queue that delays by itself.
func (p *Plan) waits() string {
	delays := p.cfg.Policy.Delays()
	switch len(delays) {
	case 0:
		return "nothing"
	case 1:
		return history.Short(delays[0])
	}
	return history.Short(delays[0]) + " to " + history.Short(delays[len(delays)-1])
}

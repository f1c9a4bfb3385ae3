package retry

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/amqpkit/amqpkit/internal/history"
)

// String describes the plan: the rules and policies, the delays for which the worker waits, and a diagram of the queues.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "retry plan for queue %s\n", p.cfg.Queue)
	for _, r := range p.cfg.Rules {
		fmt.Fprintf(&b, "  %s: %s\n", r.name, r.action.action())
	}
	fmt.Fprintf(&b, "  permanent, rejected: park at once\n  any other error: %s\n\n", p.cfg.Policy)
	if d := p.cfg.MaxInProcessDelay; d > 0 {
		fmt.Fprintf(&b, "  the worker waits for delays up to %s\n", history.Short(d))
	}
	from := p.cfg.Queue
	for _, d := range p.tiers {
		fmt.Fprintf(&b, "  %s ──▶ %s ── %s ──▶ %s\n", from, history.WaitQueue(p.cfg.Queue, d), history.Short(d), p.cfg.Queue)
		from = strings.Repeat(" ", utf8.RuneCountInString(p.cfg.Queue))
	}
	fmt.Fprintf(&b, "  %s ──▶ %s\n", from, p.ParkingQueue())
	return b.String()
}

package retry

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/amqpkit/amqpkit/internal/history"
)

// String describes the plan: the rules and policies, where messages wait, and a diagram of the queues.
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
	p.draw(&b)
	return b.String()
}

// draw draws the queues, with the source queue on the left.
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
	arrow(p.ParkingQueue(), "")
}

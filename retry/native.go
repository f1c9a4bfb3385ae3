package retry

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/topology"
)

// validateNative reports what a quorum queue's own delayed retry cannot do.
func (c Config) validateNative() (errs []error) {
	wrong := func(field, problem, fix string) { errs = append(errs, fault(field, problem, fix)) }
	switch s := c.Source; {
	case s == nil:
		wrong("Native", "the source queue itself delays, by arguments that it is declared with", "set Source, or leave Native out for a queue that is declared elsewhere")
	case s.Type != "" && s.Type != topology.Quorum:
		wrong("Source.Type", fmt.Sprintf("a %s queue cannot delay", s.Type), "use topology.Quorum, or leave Native out")
	default:
		if s.DeliveryLimit != nil {
			wrong("Source.DeliveryLimit", "the plan parks before any limit", "leave it out")
		}
		if s.SingleActiveConsumer || s.Arguments["x-single-active-consumer"] == true {
			wrong("Source.SingleActiveConsumer", "a queue that delays failed messages does not keep their order, and RabbitMQ counts messages that one consumer hands over to the next as failed",
				"leave it out, or Native: with wait queues the plan counts attempts itself")
		}
		if s.MessageTTL != 0 {
			wrong("Source.MessageTTL", "what waits in the queue would expire there", "leave it out, or Native")
		}
		for name := range s.Arguments {
			if strings.HasPrefix(name, "x-delayed-retry-") {
				wrong("Source.Arguments["+validate.Quote(name)+"]", "the plan sets it", "leave it out")
			}
		}
	}
	if c.MaxInProcessDelay != 0 {
		wrong("MaxInProcessDelay", "a queue that delays by itself would count none of these attempts", "leave it out, or Native")
	}
	if c.Policy.jitter != 0 {
		wrong("Policy", "a queue that delays by itself has no jitter", "leave Jitter out, or Native")
	}
	if c.Policy.maxAge != 0 {
		wrong("Policy", "a queue that delays by itself keeps no time of the first failure", "leave MaxAge out, or Native")
	}
	if !c.Policy.linear() {
		wrong("Policy", "a queue that delays by itself adds the same to each delay, up to a longest", "use Linear or one delay, or leave Native out")
	}
	for i, r := range c.Rules {
		if _, ok := r.action.(Policy); ok {
			wrong(fmt.Sprintf("Rules[%d]", i), "a queue that delays by itself has one schedule for all", "use Park or Discard, or leave Native out")
		}
	}
	return errs
}

// linear tells a policy that a queue's own delayed retry can follow: its nth delay is n times the first, or the last.
func (p Policy) linear() bool {
	for i, d := range p.delays {
		if d != min(p.delays[0]*time.Duration(i+1), p.delays[len(p.delays)-1]) {
			return false
		}
	}
	return true
}

// delaying adds to a queue what makes it delay failed messages by itself. Only what failed (basic.reject) is
// delayed, so that consumer.Requeue stays as it is.
func (p *Plan) delaying(q topology.Queue) topology.Queue {
	delays := p.cfg.Policy.delays
	q.Arguments = maps.Clone(q.Arguments)
	if q.Arguments == nil {
		q.Arguments = amqp.Table{}
	}
	q.Arguments["x-delayed-retry-type"] = "failed"
	q.Arguments["x-delayed-retry-min"] = delays[0].Milliseconds()
	q.Arguments["x-delayed-retry-max"] = delays[len(delays)-1].Milliseconds()
	q.DeliveryLimit = new(topology.Unlimited)
	return q
}

// canDelay refuses a broker that would take the arguments of delayed retry in silence.
func canDelay(properties amqp.Table) error {
	product, _ := properties["product"].(string)
	version, _ := properties["version"].(string)
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, errX := strconv.Atoi(major)
	y, errY := strconv.Atoi(minor)
	if product == "RabbitMQ" && errX == nil && errY == nil && (x > 4 || x == 4 && y >= 3) {
		return nil
	}
	found := validate.Printable(strings.TrimSpace(history.Cut(product+" "+version, history.MaxEntryText)))
	return &amqperr.FieldError{
		Package: "retry", Field: "Native", Problem: "needs RabbitMQ 4.3 or newer, this is " + found,
		Fix:    "upgrade that node, or leave it out: wait queues do with RabbitMQ 4.0",
		Broker: cmp.Or(found, "unknown"),
	}
}

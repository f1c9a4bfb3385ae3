package retry

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/topology"
)

// A Plan retries and parks the failed messages of one queue. Any number of consumers may share it.
type Plan struct {
	cfg      Config
	tiers    []time.Duration // delays of the wait queues, the shortest first
	longest  time.Duration   // wait that After may ask for
	attempts int             // the largest number that a policy allows
	host     string

	declared atomic.Bool // by Declare
}

// New returns the plan for a Config. The error reports all invalid fields at once, each as a [*amqperr.FieldError].
func New(c Config) (*Plan, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	p := &Plan{cfg: c, tiers: c.tiers(), longest: c.MaxInProcessDelay}
	p.host, _ = os.Hostname()
	for _, policy := range c.policies() {
		p.attempts = max(p.attempts, policy.attempts)
	}
	if n := len(p.tiers); n > 0 {
		p.longest = max(p.longest, maxStays*p.tiers[n-1])
	}
	if c.Source != nil {
		p.cfg.Source = p.source(*c.Source)
	}
	if err := p.Topology().Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// Topology returns the queues of the plan: Config.Source, a wait queue for each delay, and the parking queue. It may be declared as part of
// another topology. Wait queues and the parking queue are durable quorum queues. A wait queue dead-letters its messages to the source
// queue after its TTL, at least once: it keeps them while the source queue is missing. The parking queue has neither a TTL nor a
// delivery limit, so that messages may be read from it any number of times.
func (p *Plan) Topology() topology.Topology {
	var t topology.Topology
	if p.cfg.Source != nil {
		t.Queues = append(t.Queues, *p.cfg.Source)
	}
	for _, d := range p.tiers {
		t.Queues = append(t.Queues, topology.Queue{
			Name:          history.WaitQueue(p.cfg.Queue, d),
			MessageTTL:    d,
			Overflow:      topology.RejectPublish, // required for at-least-once
			DeadLetter:    &topology.DeadLetter{RoutingKey: p.cfg.Queue, Strategy: topology.AtLeastOnce},
			DeliveryLimit: new(topology.Unlimited),
		})
	}
	t.Queues = append(t.Queues, topology.Queue{
		Name: p.ParkingQueue(), Overflow: topology.RejectPublish, DeliveryLimit: new(topology.Unlimited), // a policy may set a maximum length
	})
	return t
}

// source returns the source queue with the parking queue as its dead-letter target, unless it has another one. The strategy is
// at-least-once if that changes nothing for publishers.
func (p *Plan) source(q topology.Queue) *topology.Queue {
	q.Name = p.cfg.Queue
	if q.DeadLetter != nil {
		return &q
	}
	q.DeadLetter = &topology.DeadLetter{RoutingKey: p.ParkingQueue()}
	bounded := q.MaxLength != 0 || q.MaxLengthBytes != 0
	for _, name := range []string{"x-max-length", "x-max-length-bytes", "x-overflow"} {
		_, set := q.Arguments[name]
		bounded = bounded || set
	}
	if quorum := q.Type == "" || q.Type == topology.Quorum; quorum && (q.Overflow == topology.RejectPublish || q.Overflow == "" && !bounded) {
		q.Overflow, q.DeadLetter.Strategy = topology.RejectPublish, topology.AtLeastOnce
	}
	return &q
}

// Declare declares the plan's topology on ac and returns the errors of topology.Topology.Declare. The plan needs RabbitMQ 4.0 or
// newer. A source queue that the plan does not declare must exist, or Declare returns a *topology.MissingError. Declare may run any
// number of times, also concurrently. Use it as amqpkit.Config.Setup, which runs before a consumer starts.
func (p *Plan) Declare(ctx context.Context, ac *amqp.Connection) error {
	err := p.Topology().Declare(ctx, ac)
	p.declared.Store(err == nil)
	if p.cfg.Source != nil || len(p.tiers) > 0 { // the wait queues name the source queue, so that it was verified
		return err
	}
	source := topology.Topology{Queues: []topology.Queue{{Name: p.cfg.Queue}}}
	return errors.Join(err, source.Verify(ctx, ac))
}

// ParkingQueue returns the name of the parking queue: the name of the source queue with the suffix ".parked".
func (p *Plan) ParkingQueue() string { return history.ParkingQueue(p.cfg.Queue) }

// parksRejected reports whether RabbitMQ moves a rejected message to another queue at least once.
func (p *Plan) parksRejected() bool {
	return p.declared.Load() && p.cfg.Source != nil && p.cfg.Source.DeadLetter.Strategy == topology.AtLeastOnce
}

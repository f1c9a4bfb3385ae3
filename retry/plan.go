package retry

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/topology"
)

// A Plan is how the failed messages of one queue are retried and parked: the queues to declare
// and the middleware to wrap its handlers with. It may be used by any number of consumers.
type Plan struct {
	cfg     Config
	tiers   []time.Duration // of the wait queues, the shortest first
	longest time.Duration   // that a message may have to wait yet
	most    int             // attempts that any of the policies allows
	topo    topology.Topology
	host    string

	declared atomic.Bool // on a broker that was asked
}

// New plans for a queue: policy for every error that none of the rules is for. It is
// [Config.Plan] for the common case.
func New(queue string, policy Policy, rules ...Rule) (*Plan, error) {
	return Config{Queue: queue, Policy: policy, Rules: rules}.Plan()
}

// Plan makes the plan, or returns every fault at once, each a [*amqperr.FieldError].
func (c Config) Plan() (*Plan, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	p := &Plan{cfg: c, tiers: c.tiers(), host: hostname()}
	p.cfg.Rules = slices.Clone(c.Rules)
	for _, policy := range c.policies() {
		p.most = max(p.most, policy.attempts)
	}
	if n := len(p.tiers); n > maxTiers {
		return nil, tooManyTiers(n)
	}
	p.longest = c.MaxInProcessDelay
	if n := len(p.tiers); n > 0 {
		p.longest = max(p.longest, maxMoves*p.tiers[n-1])
	}
	p.topo = p.topology()
	if err := p.topo.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// Topology returns what the plan needs: a wait queue for each tier, the parking queue, and
// Config.Source. All are durable quorum queues.
//
// A wait queue gives what it holds back to the source queue when its TTL is over, at least once: if the
// source queue is missing then, it keeps it. The parking queue has no end of any kind: neither a TTL nor
// a limit of deliveries, so that looking at a message any number of times does not end it.
//
// It may be declared as a part of another topology. With Config.Native only Declare refuses a broker that would ignore it.
func (p *Plan) Topology() topology.Topology {
	t := p.topo
	t.Queues = slices.Clone(t.Queues)
	return t
}

func (p *Plan) topology() topology.Topology {
	var t topology.Topology
	if p.cfg.Source != nil {
		t.Queues = append(t.Queues, p.source(*p.cfg.Source))
	}
	for _, d := range p.tiers {
		t.Queues = append(t.Queues, topology.Queue{
			Name:          history.WaitQueue(p.cfg.Queue, d),
			MessageTTL:    d,
			Overflow:      topology.RejectPublish, // or RabbitMQ falls back to at-most-once
			DeadLetter:    &topology.DeadLetter{RoutingKey: p.cfg.Queue, Strategy: topology.AtLeastOnce},
			DeliveryLimit: new(topology.Unlimited),
		})
	}
	t.Queues = append(t.Queues, topology.Queue{
		Name: history.ParkingQueue(p.cfg.Queue), Overflow: topology.RejectPublish, DeliveryLimit: new(topology.Unlimited), // full only by a policy
	})
	return t
}

// source completes the source queue: what dies in it without a handler is parked too, at least once where that
// changes nothing for publishers.
func (p *Plan) source(q topology.Queue) topology.Queue {
	q.Name = p.cfg.Queue
	if p.cfg.Native {
		q = p.delaying(q)
	}
	if q.DeadLetter != nil {
		return q
	}
	q.DeadLetter = &topology.DeadLetter{RoutingKey: p.ParkingQueue()}
	bounded := q.MaxLength != 0 || q.MaxLengthBytes != 0
	for _, name := range []string{"x-max-length", "x-max-length-bytes", "x-overflow"} {
		_, there := q.Arguments[name]
		bounded = bounded || there
	}
	if quorum := q.Type == "" || q.Type == topology.Quorum; quorum && (q.Overflow == topology.RejectPublish || q.Overflow == "" && !bounded) {
		q.Overflow, q.DeadLetter.Strategy = topology.RejectPublish, topology.AtLeastOnce
	}
	return q
}

// Declare declares the plan's topology on ac, and returns what topology.Topology.Declare does: a
// *amqperr.FieldError also where the broker's version cannot do what the plan needs: RabbitMQ 4.0 or newer, 4.3 for Config.Native.
// A source queue that the plan does not declare must exist by then, or Declare returns a *topology.MissingError
// for it. It may run from everywhere at once and as often as one likes; as a part of amqpkit.Config.Setup it
// is done before anyone consumes.
func (p *Plan) Declare(ctx context.Context, ac *amqp.Connection) error {
	if p.cfg.Native {
		if err := canDelay(ac.Properties); err != nil {
			return err
		}
	}
	err := p.topo.Declare(ctx, ac)
	p.declared.Store(err == nil)
	if p.cfg.Source != nil || len(p.tiers) > 0 { // the wait queues name the source queue
		return err
	}
	source := topology.Topology{Queues: []topology.Queue{{Name: p.cfg.Queue}}}
	return errors.Join(err, source.Verify(ctx, ac))
}

// ParkingQueue returns the name of the parking queue.
func (p *Plan) ParkingQueue() string { return history.ParkingQueue(p.cfg.Queue) }

// tier returns the wait queue's delay for a wait of d: the next one that is not shorter, if that is not much longer
// or the shortest of all; else the longest one within d, behind which the rest has to be waited.
func (p *Plan) tier(d time.Duration) (tier time.Duration, enough bool) {
	i, _ := slices.BinarySearch(p.tiers, d)
	if i == 0 || i < len(p.tiers) && p.tiers[i]-d <= d/4 {
		return p.tiers[i], true
	}
	return p.tiers[i-1], false
}

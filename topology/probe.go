package topology

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Probe looks for the exchanges and queues of t by passive declarations, for [Diff], if the management API is not available. It
// creates nothing. A passive declaration returns whether the object exists, and the ready messages and the consumers of a queue.
// Attributes, bindings, policies and other objects remain unseen, and so does an object that the user may not see or whose
// node is down. RabbitMQ 4.3 accepts a passive declaration only from users with a permission for the object (4.3.0 with
// configure), RabbitMQ 4.0 from every user.
//
// Probe returns when ctx ends or the connection is lost, as [Topology.Declare] does, with that error only.
func (t Topology) Probe(ctx context.Context, ac *amqp.Connection) (Existing, error) {
	exchanges, queues := make([]probe, len(t.Exchanges)), make([]probe, len(t.Queues))
	steps := make([]step, 0, len(t.Exchanges)+len(t.Queues))
	for i, x := range t.Exchanges {
		steps = append(steps, exchanges[i].step(len(steps), "exchange", x.Name))
	}
	for i, q := range t.Queues {
		steps = append(steps, queues[i].step(len(steps), "queue", q.Name))
	}
	if err := run(ctx, ac, "probe", steps); err != nil {
		return Existing{}, err
	}
	const passively = "a passive declaration does not return them; use the management API"
	found := Existing{
		Version: brokerOf(ac.Properties).version,
		Usage:   map[string]Usage{},
		Unseen: []Unseen{
			{unseenAttributes, passively}, {unseenBindings, passively}, {unseenPolicies, passively}, {unseenOthers, passively},
		},
	}
	for i, x := range t.Exchanges {
		if exchanges[i].found(&found, object{"exchange", x.Name}) {
			found.Exchanges = append(found.Exchanges, Exchange{Name: x.Name})
		}
	}
	for i, q := range t.Queues {
		if p := queues[i]; p.found(&found, object{"queue", q.Name}) {
			found.Queues = append(found.Queues, Queue{Name: q.Name})
			if p.refused == nil {
				found.Usage[q.Name] = p.usage
			}
		}
	}
	return found, nil
}

// A probe is the answer to one passive declaration.
type probe struct {
	usage   Usage
	refused *amqp.Error
}

func (p *probe) step(at int, kind, name string) step {
	s := passive(kind, name)
	s.at = at
	if kind == "queue" {
		s.call = func(ch *amqp.Channel) error {
			q, err := ch.QueueDeclarePassive(name, false, false, false, false, nil)
			p.usage = Usage{Messages: int64(q.Messages), Consumers: int64(q.Consumers)}
			return err
		}
	}
	s.refusal = func(err *amqp.Error) error {
		p.refused = err
		return nil
	}
	return s
}

// found reports whether the object exists. It adds to existing if that could not be seen.
func (p *probe) found(existing *Existing, o object) bool {
	switch {
	case p.refused == nil, p.refused.Code == amqp.ResourceLocked: // an exclusive queue of another connection
		return true
	case !missing(p.refused):
		existing.Unseen = append(existing.Unseen, Unseen{unseenObject(o), refusedText(p.refused)})
	}
	return false
}

package management

import (
	"context"
	"errors"

	"github.com/amqpkit/amqpkit/topology"
)

// Existing returns the state of a virtual host for [topology.Diff]. If the user may not see policies, it states that in
// Unseen.
func (c *Client) Existing(ctx context.Context, virtualHost string) (topology.Existing, error) {
	overview, err := c.Overview(ctx)
	if err != nil {
		return topology.Existing{}, err
	}
	exchanges, err := c.Exchanges(ctx, virtualHost)
	if err != nil {
		return topology.Existing{}, err
	}
	queues, err := c.Queues(ctx, virtualHost)
	if err != nil {
		return topology.Existing{}, err
	}
	e := topology.Existing{Version: overview.Version, Usage: make(map[string]topology.Usage, len(queues))}
	for _, x := range exchanges {
		e.Exchanges = append(e.Exchanges, topology.Exchange{
			Name: x.Name, Type: topology.ExchangeType(x.Type), Transient: !x.Durable, AutoDelete: x.AutoDelete, Internal: x.Internal,
			Arguments: x.Arguments,
		})
	}
	for _, q := range queues {
		e.Queues = append(e.Queues, topology.Queue{
			Name: q.Name, Type: topology.QueueType(q.Type), Transient: !q.Durable, AutoDelete: q.AutoDelete, Exclusive: q.Exclusive,
			Arguments: q.Arguments,
		})
		if q.Messages >= 0 && q.Consumers >= 0 {
			e.Usage[q.Name] = topology.Usage{Messages: q.Messages, Consumers: q.Consumers, State: q.State}
		}
	}
	if e.Bindings, err = c.Bindings(ctx, virtualHost); err != nil {
		return topology.Existing{}, err
	}
	for _, list := range []func(context.Context, string) ([]topology.Policy, error){c.Policies, c.OperatorPolicies} {
		found, err := list(ctx, virtualHost)
		if denied, ok := errors.AsType[*Error](err); ok && denied.denied() {
			e.Unseen = append(e.Unseen, topology.Unseen{What: "policies", Why: denied.what()})
			break
		} else if err != nil {
			return topology.Existing{}, err
		}
		e.Policies = append(e.Policies, found...)
	}
	return e, nil
}

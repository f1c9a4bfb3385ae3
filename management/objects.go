package management

import (
	"context"
	"encoding/json"
	"net/url"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/topology"
)

// An Overview describes a broker.
type Overview struct {
	Version           string `json:"rabbitmq_version"`   // "4.3.6"
	ManagementVersion string `json:"management_version"` // of the plugin
	ErlangVersion     string `json:"erlang_version"`
	ClusterName       string `json:"cluster_name"` // "rabbit@node1"
	Node              string `json:"node"`         // the node that answered
	DefaultQueueType  string `json:"default_queue_type"`
}

// A User is the user of the Client.
type User struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"` // such as "administrator" or "management"
}

// A VirtualHost is a virtual host that the user may see.
type VirtualHost struct {
	Name             string `json:"name"`
	Description      string `json:"description"`
	DefaultQueueType string `json:"default_queue_type"` // "undefined" means the broker's
}

// An Exchange is an exchange of a virtual host.
type Exchange struct {
	Name       string     `json:"name"` // empty for the default exchange
	Type       string     `json:"type"`
	Durable    bool       `json:"durable"`
	AutoDelete bool       `json:"auto_delete"`
	Internal   bool       `json:"internal"`
	Arguments  amqp.Table `json:"arguments"` // integers are int64, other numbers float64
	Policy     string     `json:"policy"`    // its name; empty without one
}

// A Queue is a queue of a virtual host. Counts are up to five seconds old. They are -1 if the broker has not counted them yet, or
// if its statistics are disabled.
type Queue struct {
	Name           string     `json:"name"`
	Type           string     `json:"type"`
	State          string     `json:"state"` // such as "running", "minority" or "down"
	Node           string     `json:"node"`  // of the leader
	Durable        bool       `json:"durable"`
	AutoDelete     bool       `json:"auto_delete"`
	Exclusive      bool       `json:"exclusive"`
	Arguments      amqp.Table `json:"arguments"` // integers are int64, other numbers float64
	Policy         string     `json:"policy"`    // its name; empty without one
	OperatorPolicy string     `json:"operator_policy"`
	Messages       int64      `json:"messages"`
	Ready          int64      `json:"messages_ready"`
	Unacked        int64      `json:"messages_unacknowledged"`
	Consumers      int64      `json:"consumers"`
}

// Overview returns the version and the name of the broker.
func (c *Client) Overview(ctx context.Context) (Overview, error) {
	return getOne[Overview](ctx, c, "overview", "?disable_stats=true") // which fail just after the start of a broker
}

// WhoAmI returns the user of the Client.
func (c *Client) WhoAmI(ctx context.Context) (User, error) {
	return getOne[User](ctx, c, "whoami", "")
}

// VirtualHosts returns the virtual hosts that the user may see.
func (c *Client) VirtualHosts(ctx context.Context) (all []VirtualHost, err error) {
	err = getAll(ctx, c, "vhosts", func(v VirtualHost) { all = append(all, v) })
	return all, err
}

// Exchanges returns the exchanges of a virtual host, sorted by name, in pages of 500. If others are created or deleted
// meanwhile, an exchange may be missing.
func (c *Client) Exchanges(ctx context.Context, virtualHost string) (all []Exchange, err error) {
	seen := map[string]bool{}
	err = getPages(ctx, c, "exchanges/"+url.PathEscape(virtualHost), "&disable_stats=true", Exchange{}, func(x Exchange) {
		if !seen[x.Name] {
			seen[x.Name] = true
			x.Arguments = table(x.Arguments)
			all = append(all, x)
		}
	})
	return all, err
}

// Queues returns the queues of a virtual host, sorted by name, in pages of 500. If others are created or deleted meanwhile, a
// queue may be missing.
func (c *Client) Queues(ctx context.Context, virtualHost string) (all []Queue, err error) {
	seen := map[string]bool{}
	blank := Queue{Messages: -1, Ready: -1, Unacked: -1, Consumers: -1}
	err = getPages(ctx, c, "queues/"+url.PathEscape(virtualHost), "", blank, func(q Queue) {
		if !seen[q.Name] {
			seen[q.Name] = true
			q.Arguments = table(q.Arguments)
			all = append(all, q)
		}
	})
	return all, err
}

// Bindings returns the bindings of a virtual host without the implicit ones of the default exchange.
func (c *Client) Bindings(ctx context.Context, virtualHost string) (all []topology.Binding, err error) {
	type binding struct {
		Source, Destination string
		Type                string `json:"destination_type"`
		Key                 string `json:"routing_key"`
		Arguments           amqp.Table
	}
	err = getAll(ctx, c, "bindings/"+url.PathEscape(virtualHost), func(b binding) {
		if b.Source == "" {
			return
		}
		found := topology.Binding{Source: b.Source, Key: b.Key, Arguments: table(b.Arguments)}
		if b.Type == "exchange" {
			found.Exchange = b.Destination
		} else {
			found.Queue = b.Destination
		}
		all = append(all, found)
	})
	return all, err
}

// Policies returns the policies of a virtual host.
func (c *Client) Policies(ctx context.Context, virtualHost string) ([]topology.Policy, error) {
	return c.policies(ctx, "policies/"+url.PathEscape(virtualHost), false)
}

// OperatorPolicies returns the operator policies of a virtual host.
func (c *Client) OperatorPolicies(ctx context.Context, virtualHost string) ([]topology.Policy, error) {
	return c.policies(ctx, "operator-policies/"+url.PathEscape(virtualHost), true)
}

func (c *Client) policies(ctx context.Context, path string, operator bool) (all []topology.Policy, err error) {
	type policy struct {
		Name, Pattern string
		ApplyTo       string `json:"apply-to"`
		Priority      int
		Definition    amqp.Table
	}
	err = getAll(ctx, c, path, func(p policy) {
		all = append(all, topology.Policy{
			Name: p.Name, Pattern: p.Pattern, ApplyTo: p.ApplyTo, Priority: p.Priority, Definition: table(p.Definition), Operator: operator,
		})
	})
	return all, err
}

// table converts the numbers of a JSON object. An empty one is nil.
func table(args amqp.Table) amqp.Table {
	if len(args) == 0 {
		return nil
	}
	for key, v := range args {
		args[key] = converted(v)
	}
	return args
}

func converted(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String() // beyond both
		}
		return f
	case map[string]any:
		return table(v)
	case []any:
		for i, entry := range v {
			v[i] = converted(entry)
		}
	}
	return v
}

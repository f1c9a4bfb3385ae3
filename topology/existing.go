package topology

import (
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

// An Existing is the state of one virtual host, as far as it was seen. Its source is RabbitMQ's management API (package
// management) or, without it, [Topology.Probe].
type Existing struct {
	// Topology holds the objects. The arguments of exchanges and queues are in Arguments, and Type is set. The exchanges
	// that every broker has and the implicit bindings of the default exchange may be left out.
	Topology

	// Version is the version of the broker, such as "4.3.6". It decides which attributes RabbitMQ compares. Empty means
	// the newest one that this package knows.
	Version string

	// Usage is the state of queues by their names. A missing queue means that it was not seen.
	Usage map[string]Usage

	// Policies are the policies and operator policies of the virtual host.
	Policies []Policy

	// Unseen lists the parts that are missing here although they may exist.
	Unseen []Unseen
}

// A Usage shows whether a queue is in use. The management API updates it every five seconds by default.
type Usage struct {
	Messages  int64  // ready and unacknowledged ones; a passive declaration counts only the ready ones
	Consumers int64  // consumers of all connections
	State     string // such as "running", "minority" or "down"; empty if it was not seen
}

// A Policy changes attributes of the queues and exchanges whose names match its pattern
// (https://www.rabbitmq.com/docs/policies).
type Policy struct {
	Name       string
	Pattern    string     // a regular expression
	ApplyTo    string     // "all", "queues", "exchanges", "quorum_queues", "classic_queues" or "streams"
	Priority   int        // the highest one applies
	Definition amqp.Table // the keys are the ones of arguments without "x-"
	Operator   bool       // an operator policy limits the values of arguments and policies
}

// An Unseen is a part of a virtual host that could not be seen.
type Unseen struct {
	// What is one object, such as `queue "orders"`, or one of
	//
	//   - "attributes": the attributes and arguments of all exchanges and queues
	//   - "bindings": all bindings
	//   - "policies": all policies and operator policies
	//   - "usage": the messages and consumers of all queues
	//   - "other objects": the exchanges and queues that the wanted topology does not declare
	What string

	// Why is the reason, and what would help.
	Why string
}

func (u Unseen) String() string { return u.What + ": " + u.Why }

// The values of Unseen.What that Diff reads.
const (
	unseenAttributes = "attributes"
	unseenBindings   = "bindings"
	unseenPolicies   = "policies"
	unseenOthers     = "other objects"
)

// unseenObject returns the Unseen.What of one object. It contains the whole name, unlike the text of errors.
func unseenObject(o object) string { return o.kind + " " + strconv.Quote(o.name) }

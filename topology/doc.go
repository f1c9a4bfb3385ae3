// Package topology describes exchanges, queues and bindings as data, validates them, and declares them on RabbitMQ. All
// instances of a program may declare the same topology at once and any number of times.
//
// Declaring never changes an existing object. An object that exists with other attributes is reported as a [*ConflictError],
// which names the object, the attribute and both values. Declare still declares all other objects. A [*DeclareError] reports
// an object that RabbitMQ refused for another reason, such as a missing permission.
//
//	orders := topology.Topology{
//		Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}},
//		Queues: []topology.Queue{{
//			Name:       "billing",
//			DeadLetter: &topology.DeadLetter{RoutingKey: "billing.failed"},
//		}, {
//			Name:          "billing.failed",
//			DeliveryLimit: new(topology.Unlimited),
//		}},
//		Bindings: []topology.Binding{{Source: "orders", Queue: "billing", Key: "order.paid"}},
//	}
//	err := orders.Declare(ctx, ac) // ac is an *amqp.Connection
//
// By default, exchanges are durable, and queues are durable quorum queues. [Queues] returns a topology of durable quorum
// queues with the given names. The constants of [ExchangeType] and [QueueType] are the other types. [Merge] combines
// topologies. The method value orders.Declare fits amqpkit.Config.Setup: the Conn then declares the topology on every new
// session before the session is used.
//
// RabbitMQ accepts some mistakes silently: a misspelt argument, a dead-letter strategy that cannot take effect, a cycle of
// queues that drops messages. [Topology.Validate] finds them without a broker, and Declare calls it first. RabbitMQ also
// accepts a dead-letter or alternate exchange that does not exist, and drops the messages that are sent to it.
// [Topology.Declare] and [Topology.Verify] report such an exchange as a [*MissingError]. [Topology.Lint] also finds risks, and
// features that one version of RabbitMQ refuses, ignores or treats differently.
//
// [Diff] shows beforehand what Declare would do: it compares a topology with the [Existing] state of a virtual host and returns
// a [Plan]. Package management reads that state from the management API. Without it, [Topology.Probe] finds which objects
// exist.
//
// [ReadDefinitions] and [Topology.Definitions] read and write RabbitMQ's definitions in JSON. Package topologyfile adds a YAML
// form, environment variables, durations and several files.
package topology

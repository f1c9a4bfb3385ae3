// Package topology states exchanges, queues and bindings as data, checks them, and declares
// them on RabbitMQ: from every instance of a program at once, as often as one likes.
//
// What is declared already is left as it is. What exists with other attributes is reported
// as a [*ConflictError] that names the object, the attribute, what the broker has and what
// was wanted; everything else is declared all the same.
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
//	err := orders.Declare(ctx, conn) // conn is an *amqp.Connection
//
// Exchanges and queues are durable and queues are quorum queues unless they say otherwise.
// The method value orders.Declare fits amqpkit.Config.Setup, so that a new session is handed
// out only when its topology is there.
//
// RabbitMQ takes some mistakes in silence: a misspelt argument, a dead-letter strategy that
// cannot take effect, a ring of queues that drops what goes round. [Topology.Validate]
// finds them before anything is sent, and Declare calls it first. RabbitMQ also accepts a dead-letter or alternate
// exchange that does not exist, and drops the messages that are sent to it. [Topology.Declare] and [Topology.Verify]
// report it as a [*MissingError].
package topology

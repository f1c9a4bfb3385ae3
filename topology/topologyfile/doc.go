// Package topologyfile reads a [topology.Topology] from files: a YAML form for people, and RabbitMQ's definitions in JSON. A
// fault is reported with file, line, column and fix, as an [*amqperr.FileError].
//
//	//go:embed topology.yaml
//	var file []byte
//
//	orders, err := topologyfile.Parse(file)
//	...
//	conn, err := amqpkit.Open(amqpkit.Config{URLs: urls, Setup: orders.Declare})
//
// The YAML form has the attributes of package topology, in snake case, and objects by name:
//
//	exchanges:
//	  orders: {type: topic}
//	queues:
//	  billing:
//	    message_ttl: 1h
//	    dead_letter: {routing_key: billing.failed}
//	  billing.failed: {delivery_limit: unlimited}
//	bindings:
//	  - {source: orders, queue: billing, key: order.paid}
//
// A queue is a durable quorum queue unless its attributes differ. The attribute durable replaces the field Transient, and
// delivery_limit may be unlimited. A duration has a unit: 500ms, 1h30m, 7d. Anchors, aliases and merge keys are resolved. A name or
// key may look like a number or a boolean of YAML: it is read as it is written.
//
// In both formats a string or a name may contain environment variables: ${NAME}, or ${NAME:-default} for a variable that
// is not set or empty. $${ stands for the text ${. The value replaces text within one string and never changes the structure
// of the file. It becomes a number, a boolean or a duration if the attribute needs one.
//
// In definitions, and under arguments of the YAML form, the arguments that are times in milliseconds may be durations too:
// "x-message-ttl": "1h".
//
// [Load] merges several files. [Marshal] writes the YAML form, and [topology.Topology.Definitions] the JSON form.
package topologyfile

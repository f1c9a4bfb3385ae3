// Package diagram draws a [topology.Topology] as Mermaid, as DOT and as SVG.
//
//	os.WriteFile("topology.svg", []byte(diagram.SVG(orders)), 0o644)
//
// All three formats show the same: exchanges with their types; queues with the attributes that limit, delay or delete
// messages; bindings with their keys; dead letters as dashed red lines, with their routing key and their reason; alternate
// exchanges as dotted lines. Objects that the topology names and does not declare have a dashed outline. The default
// exchange is not drawn: dead letters that it routes lead to the queue of their routing key.
//
// Two kinds of queues are marked. A wait queue has a message TTL and a dead-letter target. A parking queue keeps dead
// letters: it has neither a TTL nor a dead-letter target, and it either receives dead letters or has no delivery limit
// and no binding. The names of queues do not matter. An SVG shows a queue without a binding next to the queue whose name
// it extends: orders.parked next to orders.
//
// The output depends on the topology alone, so that it may be committed and compared. An invalid topology is drawn too;
// call [topology.Topology.Validate] to find its faults. Characters that are invisible or change the direction of text are
// replaced by visible ones.
package diagram

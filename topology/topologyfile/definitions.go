package topologyfile

import (
	"fmt"

	"github.com/amqpkit/amqpkit/internal/definitions"
	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/topology"
)

// fieldOf is the field of a Queue or an Exchange that an argument becomes.
var fieldOf = map[string]string{
	"alternate-exchange": "AlternateExchange", "x-queue-type": "Type", "x-message-ttl": "MessageTTL", "x-expires": "Expires",
	"x-max-length": "MaxLength", "x-max-length-bytes": "MaxLengthBytes", "x-overflow": "Overflow", "x-max-priority": "MaxPriority",
	"x-dead-letter-exchange": "DeadLetter.Exchange", "x-dead-letter-routing-key": "DeadLetter.RoutingKey",
	"x-dead-letter-strategy": "DeadLetter.Strategy", "x-delivery-limit": "DeliveryLimit", "x-delayed-retry-type": "DelayedRetry.Type",
	"x-delayed-retry-min": "DelayedRetry.Min", "x-delayed-retry-max": "DelayedRetry.Max", "x-single-active-consumer": "SingleActiveConsumer",
	"x-queue-leader-locator": "LeaderLocator", "x-max-age": "MaxAge", "x-stream-max-segment-size-bytes": "MaxSegmentBytes",
}

// keyOf is the field of an object that a key becomes.
var keyOf = map[string]string{
	"name": "Name", "type": "Type", "durable": "Transient", "auto_delete": "AutoDelete", "internal": "Internal",
	"source": "Source", "routing_key": "Key", "allow_unknown_arguments": "AllowUnknownArguments",
}

func (l Loader) readDefinitions(d *document, root *tree.Node) {
	r := definitions.Reader{VirtualHost: l.VirtualHost, Durations: true, Faults: d.faults}
	file := r.Read(root)
	for _, u := range file.Unsupported {
		content := topology.Unsupported{Content: u.Content, Count: u.Count, Line: u.Node.Line, Column: u.Node.Column}
		if l.Unsupported != nil {
			l.Unsupported(d.faults.File, content)
			continue
		}
		d.faults.AddAt(content.Line, content.Column, "", content.String()+" cannot be part of a topology", "remove them from the file, or set Loader.Unsupported to omit them")
	}
	if d.faults.Some() {
		return
	}
	for i, x := range file.Exchanges {
		d.object(fmt.Sprintf("Exchanges[%d]", i), x.Node)
	}
	for i, q := range file.Queues {
		d.object(fmt.Sprintf("Queues[%d]", i), q.Node)
	}
	for i, b := range file.Bindings {
		at := fmt.Sprintf("Bindings[%d]", i)
		d.object(at, b.Node)
		field := ".Queue"
		if b.DestinationType == "exchange" {
			field = ".Exchange"
		}
		d.places[at+field] = b.Node.Get("destination")
	}
	// The arguments have become the ones of RabbitMQ. Package topology makes fields of them.
	data, _ := definitions.Write(file) // values from JSON have a form in JSON
	read, err := topology.ReadDefinitions(data, r.VirtualHost)
	if err != nil {
		panic(fmt.Sprintf("topologyfile: %v", err)) // d.faults would have it
	}
	d.topology = read.Topology
}

// object notes the places of an object's fields.
func (d *document) object(at string, n *tree.Node) {
	d.places[at] = n
	for i, key := range n.Keys {
		if field := keyOf[key.Text]; field != "" {
			d.places[at+"."+field] = n.Items[i]
		}
	}
	arguments := n.Get("arguments")
	if arguments == nil {
		return
	}
	d.note(at+".Arguments", arguments)
	for i, key := range arguments.Keys {
		if field := fieldOf[key.Text]; field != "" {
			d.places[at+"."+field] = arguments.Items[i]
			switch field {
			case "DeadLetter.Exchange":
				d.places[at+".DeadLetter"] = arguments.Items[i]
			case "DelayedRetry.Type":
				d.places[at+".DelayedRetry"] = arguments.Items[i]
			}
		}
	}
}

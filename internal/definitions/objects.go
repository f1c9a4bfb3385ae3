package definitions

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// reserved reports whether RabbitMQ skips an object of this name when it imports definitions.
func reserved(name string) bool { return strings.HasPrefix(name, "amq.") }

func (r *Reader) exchange(n *tree.Node) {
	f, x := r.Faults, Exchange{Durable: true, Arguments: amqp.Table{}, Node: n}
	r.object(n, "exchanges", map[string]func(*tree.Node){
		"name": f.String(&x.Name), "vhost": f.String(&x.VHost), "type": f.String(&x.Type), "durable": f.Bool(&x.Durable),
		"auto_delete": f.Bool(&x.AutoDelete), "internal": f.Bool(&x.Internal), "arguments": r.arguments(&x.Arguments),
		"allow_unknown_arguments": f.Bool(&x.Allow),
	}, "name", "type")
	switch {
	case n.Get("name") != nil && x.Name == "", reserved(x.Name):
		r.unsupported("exchanges that RabbitMQ declares itself", n, 1)
	default:
		r.file.Exchanges = append(r.file.Exchanges, x)
	}
}

func (r *Reader) queue(n *tree.Node) {
	f, q := r.Faults, Queue{Durable: true, Arguments: amqp.Table{}, Node: n}
	r.object(n, "queues", map[string]func(*tree.Node){
		"name": f.String(&q.Name), "vhost": f.String(&q.VHost), "type": f.String(&q.Type), "durable": f.Bool(&q.Durable),
		"auto_delete": f.Bool(&q.AutoDelete), "arguments": r.arguments(&q.Arguments), "allow_unknown_arguments": f.Bool(&q.Allow),
	}, "name")
	if reserved(q.Name) {
		r.unsupported("queues that RabbitMQ named", n, 1)
		return
	}
	r.filled(n, "name")
	argument, ok := q.Arguments["x-queue-type"].(string)
	switch {
	case ok && q.Type != "" && q.Type != argument:
		f.Add(n.Get("type"), fmt.Sprintf("is %s, but the argument x-queue-type is %s", validate.Quote(q.Type), validate.Quote(argument)), "make both equal")
	case ok:
		q.Type = argument
	case q.Type == "":
		if q.Type = r.defaultType; !q.Durable || q.AutoDelete {
			q.Type = "classic" // as RabbitMQ does: no other type has such queues
		}
	}
	if v := q.Arguments["x-queue-type"]; v != nil && !ok {
		f.Add(n.Get("arguments").Get("x-queue-type"), "is not a string", "write a queue type")
	}
	q.Arguments["x-queue-type"] = q.Type
	r.file.Queues = append(r.file.Queues, q)
}

func (r *Reader) binding(n *tree.Node) {
	f, b := r.Faults, Binding{Arguments: amqp.Table{}, Node: n}
	ignored := ""
	r.object(n, "bindings", map[string]func(*tree.Node){
		"source": f.String(&b.Source), "vhost": f.String(&b.VHost), "destination": f.String(&b.Destination),
		"destination_type": f.String(&b.DestinationType), "routing_key": f.String(&b.RoutingKey), "arguments": r.arguments(&b.Arguments),
		"allow_unknown_arguments": f.Bool(&b.Allow), "properties_key": f.String(&ignored), // made from the key and the arguments
	}, "source", "destination", "destination_type", "routing_key")
	switch kind := n.Get("destination_type"); {
	case kind != nil && kind.Kind == tree.String && b.DestinationType != "queue" && b.DestinationType != "exchange":
		f.Add(kind, validate.Quote(b.DestinationType)+" is unknown", `use "queue" or "exchange"`)
	case n.Get("source") != nil && b.Source == "":
		r.unsupported("bindings of the default exchange", n, 1)
		return
	case b.DestinationType == "queue" && reserved(b.Destination):
		r.unsupported("bindings of queues that RabbitMQ named", n, 1)
		return
	}
	r.filled(n, "destination")
	r.file.Bindings = append(r.file.Bindings, b)
}

// filled reports an empty name, which no object has.
func (r *Reader) filled(n *tree.Node, key string) {
	if v := n.Get(key); v != nil && v.Kind == tree.String && v.Text == "" {
		r.Faults.Add(v, "is empty", "write a name")
	}
}

// object reads an object. It reports missing keys, and unknown ones unless a newer RabbitMQ may have them.
func (r *Reader) object(n *tree.Node, list string, keys map[string]func(*tree.Node), required ...string) {
	if n.Kind == tree.Map {
		names := slices.Collect(maps.Keys(keys))
		for i, key := range n.Keys {
			if keys[key.Text] == nil && validate.Similar(key.Text, names) == "" {
				keys[key.Text] = func(*tree.Node) {
					r.unsupported(fmt.Sprintf("%s with the key %s", list, validate.Quote(key.Text)), n.Keys[i], 1)
				}
			}
		}
		for _, key := range required {
			if n.Get(key) == nil {
				r.Faults.Add(n, fmt.Sprintf("has no key %q", key), "add it")
			}
		}
	}
	r.Faults.Read(n, keys, nil)
}

func (r *Reader) arguments(to *amqp.Table) func(*tree.Node) {
	return func(n *tree.Node) {
		if n.Kind == tree.List && len(n.Items) == 0 {
			return // RabbitMQ accepts [] for no arguments
		}
		*to = Arguments(n, r.Faults, r.Durations)
	}
}

// Arguments reads a table of arguments. With convert, a duration becomes milliseconds in an argument that is a time, and the
// value of an environment variable becomes a number or a boolean in an argument that needs one.
func Arguments(n *tree.Node, f *tree.Faults, convert bool) amqp.Table {
	table := amqp.Table{}
	keys := map[string]func(*tree.Node){}
	for _, key := range n.Keys {
		name := key.Text
		keys[name] = func(v *tree.Node) {
			switch {
			case !convert || v.Kind != tree.String:
				table[name] = f.Value(v)
			case slices.Contains(Times, name):
				table[name] = milliseconds(v, f)
			case v.Expanded && slices.Contains(Numbers, name):
				table[name], _ = f.Integer(v)
			case v.Expanded && slices.Contains(Flags, name):
				is := false
				f.Bool(&is)(v)
				table[name] = is
			default:
				table[name] = v.Text
			}
		}
	}
	f.Read(n, keys, nil)
	return table
}

func milliseconds(n *tree.Node, f *tree.Faults) int64 {
	if n.Expanded && tree.Whole(n.Text) {
		v, _ := f.Integer(n)
		return v
	}
	d, ok := f.Duration(n)
	if ok && d%time.Millisecond != 0 {
		f.Add(n, validate.Quote(n.Text)+" is not a whole number of milliseconds", "round it")
	}
	return d.Milliseconds()
}

// The arguments of RabbitMQ 4.3 that are not strings. A test in package topology compares them with the ones that it knows.
var (
	Times = []string{
		"x-message-ttl", "x-expires", "x-delayed-retry-min", "x-delayed-retry-max", "x-consumer-timeout", "x-consumer-disconnected-timeout",
	}
	Numbers = []string{
		"x-max-length", "x-max-length-bytes", "x-max-priority", "x-delivery-limit", "x-quorum-initial-group-size", "x-quorum-target-group-size",
		"x-max-in-memory-length", "x-max-in-memory-bytes", "x-queue-version", "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes",
		"x-initial-cluster-size", "x-recent-history-length",
	}
	Flags = []string{"x-single-active-consumer", "x-recent-history-no-store"}
)

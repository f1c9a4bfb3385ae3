package topologyfile

import (
	"fmt"
	"math"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/definitions"
	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/topology"
)

// A former reads the YAML form of a topology.
type former struct {
	*document
	at string // the place of the current object: "Queues[2]"
}

type keys = map[string]func(*tree.Node)

func (d *document) readForm(root *tree.Node) {
	f := former{document: d}
	if root.Kind == tree.Null {
		d.faults.AddAt(1, 1, "", "the file is empty", "write exchanges, queues or bindings")
		return
	}
	d.faults.Read(root, keys{"exchanges": f.named(f.exchange), "queues": f.named(f.queue), "bindings": f.bindings}, func(key string) string {
		if key == "users" || key == "policies" || key == "vhosts" || key == "parameters" || key == "permissions" {
			return "a topology cannot express it: configure it on the broker"
		}
		return ""
	})
}

// named reads the objects of a mapping by name. An object without a value has no attributes.
func (f *former) named(read func(name string, n *tree.Node)) func(*tree.Node) {
	return func(n *tree.Node) {
		switch n.Kind {
		case tree.Null:
		case tree.Map:
			for i, key := range n.Keys {
				read(key.Text, n.Items[i])
			}
		default:
			fix := "write a mapping from names to attributes: orders: {…}"
			if n.Kind == tree.List {
				fix += "; lists are for definitions in JSON"
			}
			f.faults.Add(n, "is "+string(n.Kind), fix)
		}
	}
}

// begin notes the place of the next object of a list.
func (f *former) begin(list string, i int, n *tree.Node) {
	f.at = fmt.Sprintf("%s[%d]", list, i)
	f.places[f.at] = n
	if key := n.Key(); key != nil {
		f.places[f.at+".Name"] = key
	}
}

// noted notes the place of a field before it is read.
func (f *former) noted(field string, read func(*tree.Node)) func(*tree.Node) {
	place := f.at + "." + field
	return func(n *tree.Node) {
		f.places[place] = n
		read(n)
	}
}

func (f *former) exchange(name string, n *tree.Node) {
	f.begin("Exchanges", len(f.topology.Exchanges), n)
	x := topology.Exchange{Name: name}
	durable := true
	if n.Kind != tree.Null {
		f.faults.Read(n, keys{
			"type": f.noted("Type", f.word((*string)(&x.Type))), "durable": f.noted("Transient", f.faults.Bool(&durable)),
			"auto_delete": f.noted("AutoDelete", f.faults.Bool(&x.AutoDelete)), "internal": f.noted("Internal", f.faults.Bool(&x.Internal)),
			"alternate_exchange": f.noted("AlternateExchange", f.word(&x.AlternateExchange)), "arguments": f.arguments(&x.Arguments),
			"allow_unknown_arguments": f.faults.Bool(&x.AllowUnknownArguments),
		}, hintObject)
	}
	x.Transient = !durable
	f.topology.Exchanges = append(f.topology.Exchanges, x)
}

func (f *former) queue(name string, n *tree.Node) {
	f.begin("Queues", len(f.topology.Queues), n)
	q := topology.Queue{Name: name}
	durable := true
	if n.Kind != tree.Null {
		f.faults.Read(n, keys{
			"type": f.noted("Type", f.word((*string)(&q.Type))), "durable": f.noted("Transient", f.faults.Bool(&durable)),
			"exclusive": f.noted("Exclusive", f.faults.Bool(&q.Exclusive)), "auto_delete": f.noted("AutoDelete", f.faults.Bool(&q.AutoDelete)),
			"message_ttl": f.noted("MessageTTL", f.duration(&q.MessageTTL)), "expires": f.noted("Expires", f.duration(&q.Expires)),
			"max_length": f.noted("MaxLength", f.count(&q.MaxLength)), "max_length_bytes": f.noted("MaxLengthBytes", f.count(&q.MaxLengthBytes)),
			"overflow": f.noted("Overflow", f.word(&q.Overflow)), "max_priority": f.noted("MaxPriority", f.priority(&q.MaxPriority)),
			"dead_letter": f.noted("DeadLetter", f.deadLetter(&q)), "delivery_limit": f.noted("DeliveryLimit", f.limit(&q.DeliveryLimit)),
			"delayed_retry": f.noted("DelayedRetry", f.delayedRetry(&q)), "single_active_consumer": f.noted("SingleActiveConsumer", f.faults.Bool(&q.SingleActiveConsumer)),
			"leader_locator": f.noted("LeaderLocator", f.word(&q.LeaderLocator)), "max_age": f.noted("MaxAge", f.duration(&q.MaxAge)),
			"max_segment_bytes": f.noted("MaxSegmentBytes", f.count(&q.MaxSegmentBytes)), "arguments": f.arguments(&q.Arguments),
			"allow_unknown_arguments": f.faults.Bool(&q.AllowUnknownArguments),
		}, hintObject)
	}
	q.Transient = !durable
	f.topology.Queues = append(f.topology.Queues, q)
}

func hintObject(key string) string {
	switch {
	case strings.HasPrefix(key, "x-"):
		return "write it under arguments"
	case key == "transient":
		return "write durable: false"
	case key == "name", key == "vhost":
		return "the name is the key of the object, and the virtual host is the one of the connection"
	case key == "dead_letter_exchange", key == "dead_letter_routing_key", key == "dead_letter_strategy":
		return fmt.Sprintf("write dead_letter: {%s: …}", strings.TrimPrefix(key, "dead_letter_"))
	}
	return ""
}

func (f *former) bindings(n *tree.Node) {
	if n.Kind == tree.Null {
		return
	}
	for i, item := range f.faults.Items(n) {
		f.begin("Bindings", i, item)
		var b topology.Binding
		f.faults.Read(item, keys{
			"source": f.noted("Source", f.faults.Text(&b.Source)), "queue": f.noted("Queue", f.word(&b.Queue)),
			"exchange": f.noted("Exchange", f.word(&b.Exchange)), "key": f.noted("Key", f.faults.Text(&b.Key)),
			"arguments": f.arguments(&b.Arguments), "allow_unknown_arguments": f.faults.Bool(&b.AllowUnknownArguments),
		}, func(key string) string {
			switch key {
			case "routing_key":
				return `did you mean "key"?`
			case "destination", "destination_type":
				return "write queue: name or exchange: name"
			}
			return ""
		})
		f.topology.Bindings = append(f.topology.Bindings, b)
	}
}

func (f *former) deadLetter(q *topology.Queue) func(*tree.Node) {
	at := f.at
	return func(n *tree.Node) {
		f.at = at + ".DeadLetter"
		q.DeadLetter = &topology.DeadLetter{}
		f.faults.Read(n, keys{
			"exchange":    f.noted("Exchange", f.faults.Text(&q.DeadLetter.Exchange)),
			"routing_key": f.noted("RoutingKey", f.word(&q.DeadLetter.RoutingKey)),
			"strategy":    f.noted("Strategy", f.word(&q.DeadLetter.Strategy)),
		}, nil)
		f.at = at
	}
}

func (f *former) delayedRetry(q *topology.Queue) func(*tree.Node) {
	at := f.at
	return func(n *tree.Node) {
		f.at = at + ".DelayedRetry"
		q.DelayedRetry = &topology.DelayedRetry{}
		f.faults.Read(n, keys{
			"min": f.noted("Min", f.duration(&q.DelayedRetry.Min)), "max": f.noted("Max", f.duration(&q.DelayedRetry.Max)),
			"type": f.noted("Type", f.word(&q.DelayedRetry.Type)),
		}, nil)
		f.at = at
	}
}

// word reads a string that must not be empty, because an empty field has no effect.
func (f *former) word(to *string) func(*tree.Node) {
	read := f.faults.Text(to)
	return func(n *tree.Node) {
		if read(n); n.Kind == tree.String && n.Text == "" {
			f.faults.Add(n, "is empty", "write a value, or remove the key")
		}
	}
}

func (f *former) duration(to *time.Duration) func(*tree.Node) {
	return func(n *tree.Node) {
		d, ok := f.faults.Duration(n)
		if ok && d == 0 {
			f.zero(n)
		}
		*to = d
	}
}

func (f *former) count(to *int64) func(*tree.Node) {
	return func(n *tree.Node) {
		i, ok := f.faults.Integer(n)
		if ok && i == 0 {
			f.zero(n)
		}
		*to = i
	}
}

// zero reports a value that would be the same as none.
func (f *former) zero(n *tree.Node) {
	fix := "remove the key for the default of the broker"
	if key := zeros[n.Key().Text]; key != "" {
		fix += ", or write " + key + ": 0 under arguments"
	}
	f.faults.Add(n, "is zero", fix)
}

// zeros are the arguments for which RabbitMQ gives zero a meaning.
var zeros = map[string]string{"message_ttl": "x-message-ttl", "max_length": "x-max-length", "max_length_bytes": "x-max-length-bytes"}

func (f *former) priority(to *uint8) func(*tree.Node) {
	return func(n *tree.Node) {
		i, ok := f.faults.Integer(n)
		switch {
		case !ok:
		case i < 1 || i > math.MaxUint8:
			f.faults.Add(n, fmt.Sprintf("%d is not between 1 and 255", i), "write a number up to 5, or remove the key")
		default:
			*to = uint8(i)
		}
	}
}

func (f *former) limit(to **int) func(*tree.Node) {
	return func(n *tree.Node) {
		if n.Kind == tree.String && n.Text == "unlimited" {
			*to = new(topology.Unlimited)
			return
		}
		if n.Kind == tree.String && !(n.Expanded && tree.Whole(n.Text)) {
			f.faults.Add(n, validate.Quote(n.Text)+" is not a limit", "write a number or unlimited")
			return
		}
		if i, ok := f.faults.Integer(n); ok {
			*to = new(int(max(min(i, math.MaxInt32), math.MinInt32)))
			if int64(**to) != i {
				f.faults.Add(n, fmt.Sprintf("%d is out of range", i), "write unlimited")
			}
		}
	}
}

func (f *former) arguments(to *amqp.Table) func(*tree.Node) {
	at := f.at + ".Arguments"
	return func(n *tree.Node) {
		f.note(at, n)
		if table := definitions.Arguments(n, f.faults, true); len(table) > 0 {
			*to = table
		}
	}
}

// note notes the places of arguments at every depth, as [amqperr.FieldError] names them.
func (d *document) note(at string, n *tree.Node) {
	d.places[at] = n
	for i, item := range n.Items {
		if n.Kind == tree.Map {
			d.note(at+"["+validate.Quote(n.Keys[i].Text)+"]", item)
		} else {
			d.note(fmt.Sprintf("%s[%d]", at, i), item)
		}
	}
}

package topology

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/definitions"
	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Definitions is the content of a definitions file, RabbitMQ's JSON format for export and import
// (https://www.rabbitmq.com/docs/definitions).
type Definitions struct {
	// Topology has the objects of the selected virtual host.
	Topology Topology

	// Unsupported is the rest of the file.
	Unsupported []Unsupported
}

// Unsupported is content of a definitions file that a [Topology] cannot express: users, policies, parameters, objects of
// other virtual hosts.
type Unsupported struct {
	Content string // "users", "policies", `queues of virtual host "test"`
	Count   int    // how many of them
	Line    int    // of the first one, from 1
	Column  int    // in characters, from 1
}

// String returns the content and the count: "users (2)".
func (u Unsupported) String() string { return fmt.Sprintf("%s (%d)", u.Content, u.Count) }

// ReadDefinitions reads the objects of one virtual host from a definitions file, as exported by rabbitmqctl
// export_definitions or the management plugin for a cluster or for a single virtual host. An empty virtualHost selects the
// only one in the file; it is an error if the objects belong to several.
//
// Arguments become fields of the Topology if their value is the one that the field would send. Others, such as a TTL of
// 0, stay in Arguments. Integers are int64, other numbers float64. A queue without a type gets the default type of
// the virtual host in the file, otherwise Classic, as in RabbitMQ.
//
// ReadDefinitions omits exchanges and queues whose names begin with "amq.", as RabbitMQ does when it imports a file.
// Definitions.Unsupported lists them, and everything else that is omitted. [Topology.Validate] checks the result.
// AllowUnknownArguments of an object is the key allow_unknown_arguments, which RabbitMQ ignores.
//
// Each fault of the file is an [*amqperr.FileError]: a syntax error, a misspelt key, a value of the wrong type. All faults are
// returned joined.
func ReadDefinitions(data []byte, virtualHost string) (Definitions, error) {
	faults := &tree.Faults{Package: "topology"}
	root := tree.ParseJSON(data, faults)
	if root == nil {
		return Definitions{}, faults.Err()
	}
	faults.Duplicates(root)
	r := definitions.Reader{VirtualHost: virtualHost, Faults: faults}
	file := r.Read(root)
	if faults.Some() {
		return Definitions{}, faults.Err()
	}
	var d Definitions
	for _, x := range file.Exchanges {
		d.Topology.Exchanges = append(d.Topology.Exchanges, exchangeOf(x))
	}
	for _, q := range file.Queues {
		d.Topology.Queues = append(d.Topology.Queues, queueOf(q))
	}
	for _, b := range file.Bindings {
		d.Topology.Bindings = append(d.Topology.Bindings, bindingOf(b))
	}
	for _, u := range file.Unsupported {
		d.Unsupported = append(d.Unsupported, Unsupported{u.Content, u.Count, u.Node.Line, u.Node.Column})
	}
	return d, nil
}

// Definitions returns t as a definitions file that RabbitMQ imports into an existing virtual host. An empty virtualHost
// omits the name: the form for the import into one virtual host, POST /api/definitions/{vhost} of the management API. The
// objects keep their order. [ReadDefinitions] of the result returns a topology with equal declarations.
//
// Each value that the file cannot hold is a [*amqperr.FieldError]: arguments of the types []byte, time.Time and
// amqp.Decimal, strings that are not UTF-8, bindings with two destinations, and exclusive queues, which belong to a
// connection. An argument of nil is written as null, as RabbitMQ does; RabbitMQ refuses to import it.
func (t Topology) Definitions(virtualHost string) ([]byte, error) {
	var f faults
	var file definitions.File
	for i, x := range t.Exchanges {
		f.at = place("Exchanges", i, x.Name)
		f.utf8(".Name", x.Name)
		f.utf8(".Type", string(x.Type))
		r := x.request()
		file.Exchanges = append(file.Exchanges, definitions.Exchange{
			Name: r.name, VHost: virtualHost, Type: r.kind, Durable: r.durable, AutoDelete: r.autoDelete, Internal: r.internal,
			Arguments: r.args, Allow: x.AllowUnknownArguments,
		})
	}
	for i, q := range t.Queues {
		f.at = place("Queues", i, q.Name)
		f.utf8(".Name", q.Name)
		if q.Exclusive {
			f.add(".Exclusive", "RabbitMQ does not export or import exclusive queues, because they belong to a connection", "leave the queue out of the file")
		}
		r := q.request()
		file.Queues = append(file.Queues, definitions.Queue{
			Name: r.name, VHost: virtualHost, Type: string(q.kind()), Durable: r.durable, AutoDelete: r.autoDelete,
			Arguments: r.args, Allow: q.AllowUnknownArguments,
		})
	}
	for i, b := range t.Bindings {
		f.at = fmt.Sprintf("Bindings[%d]", i)
		to, kind := b.Queue, "queue"
		if b.Exchange != "" {
			to, kind = b.Exchange, "exchange"
		}
		f.utf8(".Source", b.Source)
		f.utf8(".Key", b.Key)
		f.utf8("."+strings.ToUpper(kind[:1])+kind[1:], to)
		if b.Queue != "" && b.Exchange != "" {
			f.add(".Queue", "is set together with Exchange", "make two bindings")
		}
		file.Bindings = append(file.Bindings, definitions.Binding{
			Source: b.Source, VHost: virtualHost, Destination: to, DestinationType: kind, RoutingKey: b.Key,
			Arguments: validate.Arguments(b.Arguments), Allow: b.AllowUnknownArguments,
		})
	}
	data, problems := definitions.Write(file)
	for _, p := range problems {
		switch p.List {
		case "exchanges":
			f.at = place("Exchanges", p.Index, t.Exchanges[p.Index].Name)
		case "queues":
			f.at = place("Queues", p.Index, t.Queues[p.Index].Name)
		default:
			f.at = fmt.Sprintf("Bindings[%d]", p.Index)
		}
		f.found(".Arguments", p.Problem)
	}
	if len(f.errs) > 0 {
		return nil, errors.Join(f.errs...)
	}
	return data, nil
}

// utf8 checks a name that becomes part of a JSON text.
func (f *faults) utf8(field, name string) {
	if !utf8.ValidString(name) {
		f.add(field, validate.Quote(name)+" is not valid UTF-8", "use another name")
	}
}

func exchangeOf(o definitions.Exchange) Exchange {
	x := Exchange{
		Name: o.Name, Type: ExchangeType(o.Type), Transient: !o.Durable, AutoDelete: o.AutoDelete, Internal: o.Internal,
		AllowUnknownArguments: o.Allow,
	}
	rest := raws(maps.Clone(o.Arguments))
	rest.text("alternate-exchange", &x.AlternateExchange)
	x.Arguments = rest.table()
	return x
}

func queueOf(o definitions.Queue) Queue {
	q := Queue{
		Name: o.Name, Type: QueueType(o.Type), Transient: !o.Durable, AutoDelete: o.AutoDelete, AllowUnknownArguments: o.Allow,
	}
	rest := raws(maps.Clone(o.Arguments))
	delete(rest, "x-queue-type")
	rest.milliseconds("x-message-ttl", &q.MessageTTL)
	rest.milliseconds("x-expires", &q.Expires)
	rest.count("x-max-length", &q.MaxLength)
	rest.count("x-max-length-bytes", &q.MaxLengthBytes)
	rest.text("x-overflow", &q.Overflow)
	if n, ok := rest["x-max-priority"].(int64); ok && n > 0 && n <= math.MaxUint8 {
		q.MaxPriority = uint8(n)
		delete(rest, "x-max-priority")
	}
	if name, ok := rest["x-dead-letter-exchange"].(string); ok {
		q.DeadLetter = &DeadLetter{Exchange: name}
		delete(rest, "x-dead-letter-exchange")
		rest.text("x-dead-letter-routing-key", &q.DeadLetter.RoutingKey)
		rest.text("x-dead-letter-strategy", &q.DeadLetter.Strategy)
	}
	if n, ok := rest["x-delivery-limit"].(int64); ok && n == int64(int(n)) {
		q.DeliveryLimit = new(int(n))
		delete(rest, "x-delivery-limit")
	}
	q.DelayedRetry = rest.delayedRetry()
	if rest["x-single-active-consumer"] == true {
		q.SingleActiveConsumer = true
		delete(rest, "x-single-active-consumer")
	}
	rest.text("x-queue-leader-locator", &q.LeaderLocator)
	if age, ok := rest["x-max-age"].(string); ok {
		d, err := time.ParseDuration(age)
		if err == nil && d > 0 && age == fmt.Sprintf("%ds", d/time.Second) {
			q.MaxAge = d
			delete(rest, "x-max-age")
		}
	}
	rest.count("x-stream-max-segment-size-bytes", &q.MaxSegmentBytes)
	q.Arguments = rest.table()
	return q
}

func bindingOf(o definitions.Binding) Binding {
	b := Binding{Source: o.Source, Key: o.RoutingKey, Arguments: raws(o.Arguments).table(), AllowUnknownArguments: o.Allow}
	if o.DestinationType == "exchange" {
		b.Exchange = o.Destination
	} else {
		b.Queue = o.Destination
	}
	return b
}

// raws are arguments that have not become fields. Each method moves one to a field if the field sends the same value.
type raws amqp.Table

func (r raws) table() amqp.Table {
	if len(r) == 0 {
		return nil
	}
	return amqp.Table(r)
}

func (r raws) text(key string, to *string) {
	if s, ok := r[key].(string); ok && s != "" {
		*to = s
		delete(r, key)
	}
}

func (r raws) count(key string, to *int64) {
	if n, ok := r[key].(int64); ok && n > 0 {
		*to = n
		delete(r, key)
	}
}

func (r raws) milliseconds(key string, to *time.Duration) {
	if n, ok := r[key].(int64); ok && n > 0 && n <= math.MaxInt64/int64(time.Millisecond) {
		*to = time.Duration(n) * time.Millisecond
		delete(r, key)
	}
}

// delayedRetry moves three arguments, or none if they have no effect together.
func (r raws) delayedRetry() *DelayedRetry {
	try, d := maps.Clone(r), &DelayedRetry{}
	try.text("x-delayed-retry-type", &d.Type)
	try.milliseconds("x-delayed-retry-min", &d.Min)
	try.milliseconds("x-delayed-retry-max", &d.Max)
	if d.Max == d.Min {
		d.Max = 0
	}
	var f faults
	if d.check(&f); len(f.errs) > 0 || d.Type == "" || len(try) != len(r)-3 {
		return nil
	}
	for _, key := range []string{"x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max"} {
		delete(r, key)
	}
	return d
}

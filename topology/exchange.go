package topology

import (
	"maps"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// An ExchangeType determines how an exchange routes. Besides the four types of AMQP 0-9-1 it may be any type that the
// broker or one of its plugins provides ("x-consistent-hash").
type ExchangeType string

// The exchange types of AMQP 0-9-1 (specification, section 3.1.3).
const (
	Direct  ExchangeType = "direct"  // to the bindings whose key equals the routing key
	Fanout  ExchangeType = "fanout"  // to every binding
	Topic   ExchangeType = "topic"   // by words, where "*" matches one word and "#" any number
	Headers ExchangeType = "headers" // by the message's headers, which the binding's Arguments name
)

// An Exchange is an exchange to declare. By default it is durable: it survives a restart of the broker.
type Exchange struct {
	// Name is at most 255 bytes of UTF-8 and does not begin with "amq.". The exchanges that every broker has (amq.topic
	// and so on) need no declaration: bind to them.
	Name string

	// Type is required, because it cannot be changed later and no default suits most exchanges.
	Type ExchangeType

	Transient  bool // Transient exchanges are deleted by a restart of the broker.
	AutoDelete bool // AutoDelete deletes the exchange with its last binding.
	Internal   bool // Internal exchanges accept messages from other exchanges only, not from publishers.

	// AlternateExchange receives the messages that this exchange cannot route. Empty drops or returns them.
	AlternateExchange string

	// Arguments are sent unchanged, in addition to the fields above. RabbitMQ ignores unknown arguments, misspelt ones
	// included. For the exchange types of AMQP, of RabbitMQ 4.3 and of its plugins, [Topology.Validate] therefore
	// refuses unknown names that begin with "x-" or resemble a known one.
	Arguments amqp.Table

	// AllowUnknownArguments sends unknown Arguments, such as the ones of a newer RabbitMQ.
	AllowUnknownArguments bool
}

// exchangeRequest holds the fields of exchange.declare.
type exchangeRequest struct {
	name, kind                    string
	durable, autoDelete, internal bool
	args                          amqp.Table
}

func (x Exchange) request() exchangeRequest {
	args := amqp.Table{}
	maps.Copy(args, validate.Arguments(x.Arguments))
	if x.AlternateExchange != "" {
		args["alternate-exchange"] = x.AlternateExchange
	}
	return exchangeRequest{x.Name, string(x.Type), !x.Transient, x.AutoDelete, x.Internal, args}
}

// attributes are the arguments and the other properties that RabbitMQ compares if the exchange exists.
func (x Exchange) attributes() amqp.Table {
	r := x.request()
	all := amqp.Table{"type": r.kind, "durable": r.durable, "auto_delete": r.autoDelete, "internal": r.internal}
	maps.Copy(all, r.args)
	return all
}

func (x Exchange) check(f *faults) {
	f.own(x.Name, "choose another name; exchanges that the broker declares itself only need bindings")
	if x.Name == "" {
		f.add(".Name", "is empty, which is the name of the default exchange", "set a name; the default exchange needs no declaration")
	}
	f.found(".Type", validate.Name(string(x.Type)))
	if x.Type == "" {
		f.add(".Type", "is empty", "choose Direct, Fanout, Topic or Headers")
	}
	f.found(".AlternateExchange", validate.Name(x.AlternateExchange))
	f.found(".Arguments", validate.Table(x.Arguments))
	if _, both := x.Arguments["alternate-exchange"]; both && x.AlternateExchange != "" {
		f.both("alternate-exchange", "AlternateExchange")
	}
	if arguments, ok := exchangeArguments[x.Type]; ok {
		checkArguments(f, x.Arguments, arguments, "", x.AllowUnknownArguments)
		x.checkPlugin(f)
	}
}

// checkPlugin checks values that RabbitMQ's plugins refuse.
func (x Exchange) checkPlugin(f *faults) {
	_, byHeader := x.Arguments["hash-header"]
	property, byProperty := x.Arguments["hash-property"].(string)
	switch {
	case x.Type == "x-delayed-message" && x.Arguments["x-delayed-type"] == nil:
		f.add(raw("x-delayed-type"), "is missing", `set the type by which the exchange routes, such as "topic"`)
	case x.Type != "x-consistent-hash":
	case byHeader && byProperty:
		f.add(raw("hash-property"), "is set together with hash-header", "leave one of them out")
	case byProperty && !slices.Contains([]string{"correlation_id", "message_id", "timestamp"}, property):
		f.add(raw("hash-property"), validate.Quote(property)+" is unknown", `use "correlation_id", "message_id" or "timestamp"`)
	}
}

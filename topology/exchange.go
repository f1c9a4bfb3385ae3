package topology

import (
	"maps"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// An ExchangeType says how an exchange routes. Besides the four of AMQP 0-9-1 it may be any
// type that the broker or one of its plugins knows by name ("x-consistent-hash").
type ExchangeType string

// The exchange types of AMQP 0-9-1 (specification, section 3.1.3).
const (
	Direct  ExchangeType = "direct"  // to the bindings whose key equals the routing key
	Fanout  ExchangeType = "fanout"  // to every binding
	Topic   ExchangeType = "topic"   // by words, where "*" stands for one and "#" for any number
	Headers ExchangeType = "headers" // by the message's headers, which the binding's Arguments name
)

// An Exchange is to be declared. It is durable: it survives a restart of the broker.
type Exchange struct {
	// Name is at most 255 bytes of UTF-8 and does not begin with "amq.". The exchanges
	// that every broker has (amq.topic and so on) need no declaration: bind to them.
	Name string

	// Type has no default: no choice suits most, and none can be changed later.
	Type ExchangeType

	Transient  bool // gone after a restart of the broker
	AutoDelete bool // deleted with its last binding
	Internal   bool // takes messages from other exchanges only, none from publishers

	// AlternateExchange gets what this exchange cannot route. Empty means none.
	AlternateExchange string

	// Arguments are sent as they are, besides the fields above. RabbitMQ ignores arguments that it does
	// not know. [Topology.Validate] knows the arguments of the exchange types of AMQP, RabbitMQ 4.3, its plugins
	// and the delayed message plugin. It refuses other names that begin with "x-" or are nearly right, unless
	// AllowUnknownArguments is set. Exchanges of other types are unchecked.
	Arguments             amqp.Table
	AllowUnknownArguments bool
}

// exchangeRequest is what goes over the wire.
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

func (x Exchange) check(f *faults) {
	f.own(x.Name, "choose another name; what the broker declares itself needs only be bound to")
	if x.Name == "" {
		f.add(".Name", "is empty, which is the default exchange", "name it; the default exchange needs no declaration")
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
		f.add(raw("hash-property"), "is set, and hash-header too", "leave one out")
	case byProperty && !slices.Contains([]string{"correlation_id", "message_id", "timestamp"}, property):
		f.add(raw("hash-property"), validate.Quote(property)+" is unknown", `use "correlation_id", "message_id" or "timestamp"`)
	}
}

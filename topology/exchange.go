package topology

import (
	"maps"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
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

	// Arguments are sent as they are, besides the fields above. The exchange types of AMQP
	// take none but the alternate exchange, and RabbitMQ ignores any others in silence: there
	// [Topology.Validate] refuses those that look meant for it, unless AllowUnknownArguments
	// is set. A plugin's exchange has its own, which go unchecked.
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
	maps.Copy(args, x.Arguments)
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
	f.found(".Type", wire.Name(string(x.Type)))
	if x.Type == "" {
		f.add(".Type", "is empty", "choose Direct, Fanout, Topic or Headers")
	}
	f.found(".AlternateExchange", wire.Name(x.AlternateExchange))
	f.found(".Arguments", wire.Table(x.Arguments))
	if _, both := x.Arguments["alternate-exchange"]; both && x.AlternateExchange != "" {
		f.both("alternate-exchange", "AlternateExchange")
	}
	if slices.Contains([]ExchangeType{Direct, Fanout, Topic, Headers}, x.Type) {
		checkArguments(f, x.Arguments, exchangeArguments, "", x.AllowUnknownArguments)
	}
}

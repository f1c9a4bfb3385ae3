package topology

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A Binding lets messages flow from an exchange to a queue or to another exchange. Neither
// end needs to be part of the same [Topology], but both must exist when it is declared.
type Binding struct {
	// Source is the exchange that messages come from. It cannot be the default exchange,
	// which reaches every queue by its name already.
	Source string

	// Queue or Exchange is where they go. Exactly one is set.
	Queue    string
	Exchange string

	// Key is compared with a message's routing key as the type of Source has it. Empty is
	// a key as any other.
	Key string

	// Arguments are for exchanges that route by them, such as those of type [Headers].
	Arguments amqp.Table
}

// label names b in errors.
func (b Binding) label() string {
	to := "queue " + wire.Quote(b.Queue)
	if b.Exchange != "" {
		to = "exchange " + wire.Quote(b.Exchange)
	}
	return fmt.Sprintf("binding of %s to exchange %s with key %s", to, wire.Quote(b.Source), wire.Quote(b.Key))
}

func (b Binding) check(f *faults) {
	if b.Source == "" {
		f.add(".Source", "is empty, and the default exchange cannot be bound",
			"publish to the default exchange with the queue's name as routing key, or name another exchange")
	}
	switch {
	case b.Queue == "" && b.Exchange == "":
		f.add(".Queue", "is empty", "set Queue, or Exchange")
	case b.Queue != "" && b.Exchange != "":
		f.add(".Queue", "is set, and Exchange too", "make two bindings of it")
	}
	f.found(".Source", wire.Name(b.Source))
	f.found(".Queue", wire.Name(b.Queue))
	f.found(".Exchange", wire.Name(b.Exchange))
	f.found(".Key", wire.Name(b.Key))
	f.found(".Arguments", wire.Table(b.Arguments))
}

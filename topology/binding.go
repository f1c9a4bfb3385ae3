package topology

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Binding routes messages from an exchange to a queue or to another exchange. Neither end needs to be part of the same
// [Topology], but both must exist when it is declared.
type Binding struct {
	// Source is the exchange that messages come from. The default exchange cannot be bound: it already routes to every
	// queue by its name.
	Source string

	// Queue is the destination, unless Exchange is. Exactly one of them must be set.
	Queue string

	// Exchange is the destination, unless Queue is.
	Exchange string

	// Key is compared with the routing key of a message in the way of the source's type. An empty key is an ordinary key.
	Key string

	// Arguments are for exchanges that route by them, such as the ones of type [Headers]. There "x-match" is "all" (the
	// default), "any", "all-with-x" or "any-with-x", and the other arguments are the headers to match. Without
	// "-with-x" RabbitMQ ignores headers that begin with "x-". Direct, fanout and topic exchanges ignore all arguments.
	// [Topology.Validate] refuses arguments that would be ignored and names that resemble "x-match".
	Arguments amqp.Table

	// AllowUnknownArguments sends such Arguments too.
	AllowUnknownArguments bool
}

// label names b in errors.
func (b Binding) label() string {
	to := "queue " + validate.Quote(b.Queue)
	if b.Exchange != "" {
		to = "exchange " + validate.Quote(b.Exchange)
	}
	return fmt.Sprintf("binding of %s to exchange %s with key %s", to, validate.Quote(b.Source), validate.Quote(b.Key))
}

// key identifies b on a broker.
func (b Binding) key() string {
	key := fmt.Sprintf("%q %q %q %q", b.Source, b.Queue, b.Exchange, b.Key)
	if len(b.Arguments) > 0 {
		key += fmt.Sprintf(" %#v", normal(b.Arguments)) // with sorted keys
	}
	return key
}

// ends returns the objects that must exist. One of them has no name.
func (b Binding) ends() []object {
	return []object{{"exchange", b.Source}, {"queue", b.Queue}, {"exchange", b.Exchange}}
}

// check finds the faults of b. kind is the type of its source, or empty if it is declared elsewhere.
func (b Binding) check(f *faults, kind ExchangeType) {
	if b.Source == "" {
		f.add(".Source", "is empty, and the default exchange cannot be bound",
			"publish to the default exchange with the queue's name as routing key, or name another exchange")
	}
	switch {
	case b.Queue == "" && b.Exchange == "":
		f.add(".Queue", "is empty", "set Queue or Exchange")
	case b.Queue != "" && b.Exchange != "":
		f.add(".Queue", "is set together with Exchange", "make two bindings")
	}
	f.found(".Source", validate.Name(b.Source))
	f.found(".Queue", validate.Name(b.Queue))
	f.found(".Exchange", validate.Name(b.Exchange))
	f.found(".Key", validate.Name(b.Key))
	f.found(".Arguments", validate.Table(b.Arguments))
	b.checkArguments(f, kind)
	if weight, err := strconv.Atoi(b.Key); kind == "x-consistent-hash" && (err != nil || weight < 1) {
		f.add(".Key", validate.Quote(b.Key)+" is not a weight", `a consistent hash exchange expects a whole number above zero, such as "1"`)
	}
}

func (b Binding) checkArguments(f *faults, kind ExchangeType) {
	for _, key := range slices.Sorted(maps.Keys(b.Arguments)) {
		field := raw(key)
		near := validate.Similar(key, []string{"x-match"})
		switch {
		case key == "x-match" && (kind == Headers || kind == ""):
			match, _ := b.Arguments[key].(string)
			if !slices.Contains([]string{"all", "any", "all-with-x", "any-with-x"}, match) {
				f.add(field, shownValue(b.Arguments[key])+" is unknown", `use "all", "any", "all-with-x" or "any-with-x"`)
			}
		case b.AllowUnknownArguments:
		case kind == Direct || kind == Fanout || kind == Topic:
			f.add(field, fmt.Sprintf("a %s exchange ignores arguments", kind), "remove it, bind a headers exchange, or set AllowUnknownArguments to send it")
		case near != "" && (kind == Headers || kind == ""):
			f.add(field, "RabbitMQ would compare it with a header of this name", fmt.Sprintf("did you mean %q? Otherwise set AllowUnknownArguments", near))
		case strings.HasPrefix(key, "x-") && kind == Headers && !b.matchesX():
			f.add(field, "a headers exchange ignores headers that begin with x-", `set x-match to "all-with-x" or "any-with-x"`)
		}
	}
}

// matchesX reports whether b matches headers that begin with "x-".
func (b Binding) matchesX() bool {
	match, _ := b.Arguments["x-match"].(string)
	return strings.HasSuffix(match, "-with-x")
}

func shownValue(v any) string {
	if s, ok := v.(string); ok {
		return validate.Quote(s)
	}
	return fmt.Sprintf("a %T", v)
}

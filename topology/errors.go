package topology

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A ConflictError reports that an object exists with other attributes than the declaration. RabbitMQ does not change the
// object and reports only the first attribute that differs.
//
// Has and Want are in the broker's words; "none" means that the attribute is not set. The broker's text is at most 255
// bytes long; "…" replaces the part that a very long name cuts off.
type ConflictError struct {
	Object    string // `queue "orders"`
	Attribute string // "x-message-ttl", "durable", "type", "exclusive"
	Has       string // the broker's value
	Want      string // the declared value
	Err       error  // the broker's *amqp.Error: 406 PRECONDITION_FAILED or 405 RESOURCE_LOCKED
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("topology: %s: %s is %s on the broker and %s in the declaration; %s",
		e.Object, validate.Printable(e.Attribute), shown(e.Has), shown(e.Want), e.next())
}

func (e *ConflictError) Unwrap() error { return e.Err }

func (e *ConflictError) next() string {
	queue := strings.HasPrefix(e.Object, "queue ")
	switch {
	case e.Attribute == "exclusive":
		return "use another name, or wait until the connection that declared it is closed"
	case queue && e.Attribute == "durable" && e.Has == "false":
		return "a script declared it classic and transient: set Type: topology.Classic and Transient: true to share it, " +
			"or use another name, or stop the script, delete the queue and declare it again"
	case queue:
		return "change the declaration to match, or use another name, or empty the queue, delete it and declare it again"
	}
	return "change the declaration to match, or use another name, or delete the exchange (its bindings go too) and declare it again"
}

func shown(value string) string {
	if value == "" {
		return `""`
	}
	return validate.Printable(value)
}

// A DeclareError reports an object that the broker refused for another reason than a [ConflictError]: a missing permission
// (403), a binding to a missing object (404), a queue whose node is down (404), or an argument that this version refuses
// (406).
type DeclareError struct {
	Object string // `queue "orders"`
	Err    error  // the broker's *amqp.Error
}

func (e *DeclareError) Error() string {
	s := "topology: " + e.Object + ": "
	refused, ok := errors.AsType[*amqp.Error](e.Err)
	if !ok {
		return s + validate.Printable(fmt.Sprint(e.Err))
	}
	return s + refusedText(refused)
}

// refusedText returns the broker's text and the next step.
func refusedText(refused *amqp.Error) string {
	s := fmt.Sprintf("%d %s", refused.Code, validate.Printable(refused.Reason))
	switch {
	case refused.Code == amqp.AccessRefused:
		s += "; grant the user the permission, or use a name within it"
	case missing(refused):
		s += "; declare the missing object first, in this topology or elsewhere"
	}
	return s
}

func (e *DeclareError) Unwrap() error { return e.Err }

// A MissingError reports an exchange or queue that does not exist. [Topology.Verify] looks for all objects that the topology
// declares or names, [Topology.Declare] for the ones that it names and does not declare.
type MissingError struct {
	Object string   // `exchange "orders.dead"`
	Fields []string // where the topology names it: `Queues[0] "orders".DeadLetter.Exchange`; nil if it declares it
	Err    error    // the broker's *amqp.Error: 404 NOT_FOUND
}

func (e *MissingError) Error() string {
	if len(e.Fields) == 0 {
		return "topology: " + e.Object + " does not exist; declare it"
	}
	loss := ""
	for _, f := range e.Fields {
		switch {
		case strings.Contains(f, "DeadLetter."), strings.Contains(f, "x-dead-letter-"):
			loss = ", and RabbitMQ drops messages that are dead-lettered to it"
		case loss == "" && (strings.HasSuffix(f, ".AlternateExchange") || strings.HasSuffix(f, raw("alternate-exchange"))):
			loss = ", and RabbitMQ drops unroutable messages that are meant for it"
		}
	}
	return "topology: " + shortened(e.Fields) + ": " + e.Object + " does not exist" + loss +
		"; correct the name, or declare it in this topology or before it"
}

func (e *MissingError) Unwrap() error { return e.Err }

// shortened joins fields for an error message.
func shortened(fields []string) string {
	const most = 3
	if len(fields) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(fields[:most], ", "), len(fields)-most)
	}
	return strings.Join(fields, ", ")
}

// missing distinguishes a missing object from the other meaning of 404: a queue whose node is down.
func missing(err *amqp.Error) bool {
	return err.Code == amqp.NotFound &&
		(strings.Contains(err.Reason, "no queue '") || strings.Contains(err.Reason, "no exchange '"))
}

// refusal converts the broker's refusal of the declaration of o into a typed error.
func refusal(o object, exclusive bool, e *amqp.Error) error {
	attribute, want, has, ok := parseConflict(e.Reason, o.name)
	switch {
	case e.Code == amqp.PreconditionFailed && ok:
		return &ConflictError{o.String(), attribute, has, want, e}
	case e.Code == amqp.ResourceLocked && exclusive:
		// RabbitMQ sends one text in both cases.
		return &ConflictError{o.String(), "exclusive", "false, or true for another connection,", "true", e}
	case e.Code == amqp.ResourceLocked:
		return &ConflictError{o.String(), "exclusive", "true", "false", e}
	}
	return &DeclareError{o.String(), e}
}

// parseConflict reads RabbitMQ's text of a 406 about the object called name, in one of the forms
//
//	inequivalent arg 'A' for queue 'N' in vhost 'V': received 'W' but current is 'H'
//	inequivalent arg 'A' for queue 'N' in vhost 'V': received none but current is the value 'H' of type 'T'
//	inequivalent arg 'A' for queue 'N' in vhost 'V': received the value 'W' of type 'T' but current is none
//
// or cut off after "...". Names and values are not escaped.
func parseConflict(reason, name string) (attribute, want, has string, ok bool) {
	_, rest, ok := strings.Cut(reason, "inequivalent arg '")
	if !ok {
		return "", "", "", false
	}
	attribute, rest, ok = strings.Cut(rest, "' for ")
	if !ok {
		return "", "", "", false
	}
	_, rest, _ = strings.Cut(rest, " '"+name+"' in vhost '")
	_, rest, _ = strings.Cut(rest, "': received ")
	want, has, _ = strings.Cut(rest, " but current is ")
	return attribute, value(want), value(has), true
}

// value parses one value of the text of a 406.
func value(s string) string {
	const more = "…"
	if s == "" {
		return more
	}
	s, cut := strings.CutSuffix(s, "...")
	if typed, ok := strings.CutPrefix(s, "the value "); ok {
		s = typed
		if i := strings.LastIndex(s, " of type '"); i >= 0 {
			s = s[:i]
		}
	}
	s = strings.Trim(s, "'") // an exchange type has two at each end
	if cut {
		s += more
	}
	return s
}

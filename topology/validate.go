package topology

import (
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// Validate reports everything in t that RabbitMQ would refuse, and the mistakes that it accepts silently: unknown
// arguments, values of the wrong type, an at-least-once strategy that RabbitMQ replaces by at-most-once, and cycles that
// lose messages. It asks no broker, so that objects declared elsewhere and policies are unknown to it. Every fault
// is a [*amqperr.FieldError]; several are joined (see [errors.Join]).
//
// In a cycle, a queue's dead letters return to it. RabbitMQ drops a message that completes a cycle without having been
// rejected on the way, even if it was confirmed. Validate follows messages that expire by a queue's TTL, that leave a
// full queue, or that reach an explicit delivery limit, through exchanges of every type whose routing is known, bindings
// between exchanges and alternate exchanges. It refuses a cycle that all messages of a binding complete, or all messages
// published to the name of a queue without bindings. It accepts a cycle that only rejections start, such as the usual
// pair of a work queue and a wait queue.
//
// Validate cannot know a message's own expiration and CC headers, nor the routing keys of publishers. It accepts a queue
// with bindings that expires messages with their own key to the default exchange, as a wait queue may do; a message
// published to its name is lost there. It does not follow the default delivery limit of RabbitMQ 4. A message that
// reaches it in a work queue is lost on its way back: set DeliveryLimit to [Unlimited] in a cycle.
func (t Topology) Validate() error { return errors.Join(t.faults()...) }

func (t Topology) faults() []error {
	var f faults
	exchanges := map[string]int{}
	for i, x := range t.Exchanges {
		f.at = place("Exchanges", i, x.Name)
		x.check(&f)
		if first, ok := exchanges[x.Name]; ok {
			f.twice("Exchanges", first, t.Exchanges[first].attributes(), x.attributes())
		} else {
			exchanges[x.Name] = i
		}
	}
	queues := map[string]int{}
	for i, q := range t.Queues {
		f.at = place("Queues", i, q.Name)
		q.check(&f)
		if q.Name == "" {
			f.add(".Name", "is empty", "set a name; use Queue.Declare for a queue that the broker names")
		} else if first, ok := queues[q.Name]; ok {
			f.twice("Queues", first, t.Queues[first].attributes(), q.attributes())
		} else {
			queues[q.Name] = i
		}
	}
	for i, b := range t.Bindings {
		f.at = fmt.Sprintf("Bindings[%d]", i)
		b.check(&f, t.kind(exchanges, b.Source))
	}
	t.checkCycles(&f)
	return f.errs
}

// twice reports an object that an earlier one of the same name contradicts.
func (f *faults) twice(list string, first int, there, here amqp.Table) {
	if keys := differing(there, here); len(keys) > 0 {
		key := keys[0]
		f.add(".Name", validate.AlsoNamed(fmt.Sprintf("%s[%d]", list, first), fmt.Sprintf("%s is %s there and %s here",
			validate.Printable(key), attribute(there, key), attribute(here, key))), "declare it once, or make both equal")
	}
}

func attribute(all amqp.Table, key string) string {
	v, ok := all[key]
	if !ok {
		return "none"
	}
	switch v := v.(type) {
	case string:
		return validate.Quote(v)
	case amqp.Table, map[string]any, []any:
		return validate.Printable(fmt.Sprint(normal(v))) // v may contain itself
	}
	return validate.Printable(fmt.Sprint(v))
}

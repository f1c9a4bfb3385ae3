package topology

import (
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A reference is an object that the topology relies on and does not declare.
type reference struct {
	object
	fields []string // where the topology names it: `Queues[0] "orders".DeadLetter.Exchange`
}

// references collects references, each object once.
type references struct {
	declared map[object]bool
	list     []reference
	at       map[object]int // indexes in list
}

func (r *references) add(field, kind, name string) {
	o := object{kind, name}
	if r.declared[o] || kind == "exchange" && predeclared(name) {
		return
	}
	i, known := r.at[o]
	if !known {
		i = len(r.list)
		r.at[o] = i
		r.list = append(r.list, reference{object: o})
	}
	r.list[i].fields = append(r.list[i].fields, field)
}

// predeclared reports whether every RabbitMQ has the exchange (specification, 3.1.3.1 to 3.1.3.4).
func predeclared(exchange string) bool {
	return slices.Contains([]string{"", "amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"}, exchange)
}

func (r *references) exchange(at string, x Exchange) {
	if name, ok := x.request().args["alternate-exchange"].(string); ok {
		r.add(at+x.alternateField(), "exchange", name)
	}
}

func (r *references) queue(at string, q Queue) {
	args := q.request().args
	name, ok := args["x-dead-letter-exchange"].(string)
	if !ok {
		return
	}
	key := raw("x-dead-letter-routing-key")
	if q.DeadLetter != nil && q.DeadLetter.RoutingKey != "" {
		key = ".DeadLetter.RoutingKey"
	}
	r.add(at+q.deadLetterField(), "exchange", name)
	if target, ok := args["x-dead-letter-routing-key"].(string); ok && name == "" {
		r.add(at+key, "queue", target)
	}
}

func (x Exchange) alternateField() string {
	if x.AlternateExchange != "" {
		return ".AlternateExchange"
	}
	return raw("alternate-exchange")
}

// references returns the objects outside t that t sends messages to: alternate exchanges and the targets of dead letters.
// With bindings it also returns the ends of bindings, which RabbitMQ itself checks when it binds.
func (t Topology) references(bindings bool) []reference {
	r := references{declared: make(map[object]bool, len(t.Exchanges)+len(t.Queues)), at: map[object]int{}}
	for _, x := range t.Exchanges {
		r.declared[object{"exchange", x.Name}] = true
	}
	for _, q := range t.Queues {
		r.declared[object{"queue", q.Name}] = true
	}
	for i, x := range t.Exchanges {
		r.exchange(place("Exchanges", i, x.Name), x)
	}
	for i, q := range t.Queues {
		r.queue(place("Queues", i, q.Name), q)
	}
	if bindings {
		for i, b := range t.Bindings {
			at := fmt.Sprintf("Bindings[%d]", i)
			r.add(at+".Source", "exchange", b.Source)
			if b.Queue != "" {
				r.add(at+".Queue", "queue", b.Queue)
			} else {
				r.add(at+".Exchange", "exchange", b.Exchange)
			}
		}
	}
	return r.list
}

// step returns the request that looks for the object: a passive declaration, which creates nothing.
func (r reference) step() step {
	s := passive(r.kind, r.name)
	s.refusal = func(err *amqp.Error) error { return absent(r.object, r.fields, err) }
	return s
}

// needed is step for Declare. Only a 404 for a missing object is an error there: any other answer means that the object
// exists, or that the user lacks the permission to see it.
func (r reference) needed() step {
	s := r.step()
	s.refusal = func(err *amqp.Error) error {
		if !missing(err) {
			return nil
		}
		return absent(r.object, r.fields, err)
	}
	return s
}

// passive returns the passive declaration of an exchange or a queue.
func passive(kind, name string) step {
	o := object{kind, name}
	return step{
		makes: o,
		call: func(ch *amqp.Channel) error {
			if kind == "exchange" {
				return ch.ExchangeDeclarePassive(name, string(Direct), false, false, false, false, nil) // the type is not compared
			}
			_, err := ch.QueueDeclarePassive(name, false, false, false, false, nil)
			return err
		},
		refusal: func(err *amqp.Error) error { return absent(o, nil, err) },
	}
}

// absent converts the refusal of a passive declaration into a typed error.
func absent(o object, fields []string, err *amqp.Error) error {
	if missing(err) {
		return &MissingError{Object: o.String(), Fields: fields, Err: err}
	}
	return &DeclareError{o.String(), err}
}

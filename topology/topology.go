package topology

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Topology is a set of exchanges, queues and bindings. The zero value is empty and valid.
// Its methods do not change it and may be called from any goroutine.
type Topology struct {
	Exchanges []Exchange
	Queues    []Queue
	Bindings  []Binding
}

// Validate reports everything in t that RabbitMQ would refuse, and the mistakes that it accepts silently: unknown
// arguments, values of the wrong type, an at-least-once strategy that falls back to at-most-once, and rings that
// lose messages. It asks no broker, so that objects declared elsewhere and policies are unknown to it. Every fault
// is a [*amqperr.FieldError]; several are joined (see [errors.Join]).
//
// A ring is a way on which a queue's dead letters return to it. RabbitMQ drops a message that completes a ring
// without having been rejected on the way, even if it was confirmed. Validate follows messages that expire by a
// queue's TTL, that leave a full queue, or that reach an explicit delivery limit, through exchanges of every type whose
// routing is known, bindings between exchanges and alternate exchanges. It refuses a ring which all messages of a
// binding complete, or all messages published to the name of a queue without bindings. It accepts a ring that
// only rejections start, such as the usual pair of a work queue and a wait queue.
//
// Validate cannot know a message's own expiration and CC headers, nor the routing keys of publishers. A queue with
// bindings that expires messages with their own key to the default exchange is accepted, as a wait queue may do
// that; a message published to its name is lost there. The default delivery limit of RabbitMQ 4 is not followed
// either. A message that reaches it in a work queue is lost on its way back: set DeliveryLimit to [Unlimited] in a ring.
func (t Topology) Validate() error {
	var f faults
	exchanges := map[string]int{}
	for i, x := range t.Exchanges {
		f.at = place("Exchanges", i, x.Name)
		x.check(&f)
		if first, ok := exchanges[x.Name]; !ok {
			exchanges[x.Name] = i
		} else if !reflect.DeepEqual(x.request(), t.Exchanges[first].request()) {
			f.add(".Name", fmt.Sprintf("is declared differently by Exchanges[%d]", first), "declare it once")
		}
	}
	queues := map[string]int{}
	for i, q := range t.Queues {
		f.at = place("Queues", i, q.Name)
		q.check(&f)
		if q.Name == "" {
			f.add(".Name", "is empty", "name it; Queue.Declare declares a queue that the broker names")
		} else if first, ok := queues[q.Name]; !ok {
			queues[q.Name] = i
		} else if !reflect.DeepEqual(q.request(), t.Queues[first].request()) {
			f.add(".Name", fmt.Sprintf("is declared differently by Queues[%d]", first), "declare it once")
		}
	}
	for i, b := range t.Bindings {
		f.at = fmt.Sprintf("Bindings[%d]", i)
		b.check(&f, t.kind(exchanges, b.Source))
	}
	t.checkRings(&f)
	return errors.Join(f.errs...)
}

// faults collects what is wrong.
type faults struct {
	at   string // the object being checked: `Queues[2] "orders"`
	errs []error
}

func (f *faults) add(field, problem, fix string) {
	f.errs = append(f.errs, &amqperr.FieldError{Package: "topology", Field: f.at + field, Problem: problem, Fix: fix})
}

// found adds what a check of package wire found, if anything.
func (f *faults) found(field string, p *validate.Problem) {
	if p != nil {
		f.add(field+p.Field, p.Problem, p.Fix)
	}
}

// own checks the name of something to be declared.
func (f *faults) own(name, fix string) {
	f.found(".Name", validate.Name(name))
	if strings.HasPrefix(name, "amq.") {
		f.add(".Name", `the prefix "amq." is reserved for the broker`, fix)
	}
}

// oneOf checks a value that RabbitMQ knows by name. Its zero value is the default.
func oneOf[T ~string](f *faults, field string, v T, known ...T) {
	if v == "" {
		return
	}
	quoted := make([]string, len(known))
	for i, k := range known {
		if v == k {
			return
		}
		quoted[i] = fmt.Sprintf("%q", string(k))
	}
	f.add(field, validate.Quote(string(v))+" is unknown", "use "+strings.Join(quoted, " or "))
}

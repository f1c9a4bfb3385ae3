package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Declare validates t and declares it on ac: exchanges, then queues, then bindings; of the
// queues those with a DeadLetter last, after the bindings of the others. Nothing that exists
// is changed, so that it may run as often as one likes and from many programs at once.
//
// It opens a channel for every four objects of a kind, eight at most, or as many as the
// connection has left, and closes them. [amqp.ErrChannelMax] means that there was not one.
//
// At the end it looks for the exchanges and queues that t sends messages to and does not declare: dead-letter
// exchanges, the queues that DeadLetter.RoutingKey names on the default exchange, alternate exchanges. RabbitMQ
// accepts missing ones, and drops the messages. It makes one request for each, and none for exchanges that every
// broker has. Those that a policy names are invisible to AMQP 0-9-1, and so are the bindings of a dead-letter
// exchange. An object that the user may not look at is taken for existing.
//
// One failure does not stop the others, except for the bindings of what failed. All failures
// are returned joined, in the order of t: a [*ConflictError] for what exists with other
// attributes, a [*DeclareError] for any other refusal, and at the end a [*MissingError] for each object that t only
// names and that does not exist; what names it is declared. When ctx or the connection ends,
// Declare returns within 250 ms, adding that cause once; what was declared before stays. A
// broker that does not answer when ctx ends costs the connection.
//
// An invalid topology is not declared at all: see [Topology.Validate].
func (t Topology) Declare(ctx context.Context, ac *amqp.Connection) error {
	if err := t.Validate(); err != nil {
		return err
	}
	f := faults{}
	for i, q := range t.Queues {
		f.at = place("Queues", i, q.Name)
		q.checkVersion(&f, ac)
	}
	if len(f.errs) > 0 {
		return errors.Join(f.errs...)
	}
	return run(ctx, ac, "declare", t.phases()...)
}

// Declare validates q, declares it on ac, and returns its name: the one that the broker
// chose if q.Name is empty. It is for a queue that belongs to one consumer, such as a
// subscriber's exclusive queue, which lives as long as ac. Errors are the ones of
// [Topology.Declare]. If q.Name is empty and the target of dead letters is missing, no queue is declared.
func (q Queue) Declare(ctx context.Context, ac *amqp.Connection) (name string, err error) {
	if err := q.validate(ac); err != nil {
		return "", err
	}
	// The call may outlive run by a moment when ctx ends, so that the name is handed over
	// rather than shared.
	names := make(chan string, 1)
	declare := q.step(func(name string) { names <- name })
	phases := [][]step{{declare}, q.targets()}
	if q.Name == "" { // each attempt declares another queue: none may fail after it
		slices.Reverse(phases)
		for _, target := range phases[0] {
			declare.needs = append(declare.needs, target.makes)
		}
		phases[1] = []step{declare}
	}
	err = run(ctx, ac, "declare "+declare.makes.String(), phases...)
	if err != nil {
		return "", err
	}
	return <-names, nil
}

// targets returns the requests that look for what q's dead letters go to.
func (q Queue) targets() (steps []step) {
	refs := references{declared: map[object]bool{{"queue", q.Name}: q.Name != ""}, at: map[object]int{}}
	refs.queue(q.label(), q)
	for i, r := range refs.list {
		s := r.needed()
		s.at = i + 1 // behind the queue
		steps = append(steps, s)
	}
	return steps
}

// label names q in errors.
func (q Queue) label() string {
	if q.Name == "" {
		return "Queue"
	}
	return "Queue " + validate.Quote(q.Name)
}

func (q Queue) validate(ac *amqp.Connection) error {
	f := faults{at: q.label()}
	if q.Name == "" && (q.kind() != Classic || !q.Exclusive) {
		f.add(".Name", "is empty, and the broker names only exclusive classic queues",
			"name it, or set Type: topology.Classic and Exclusive: true")
	}
	q.check(&f)
	q.checkVersion(&f, ac)
	return errors.Join(f.errs...)
}

// checkVersion finds what the broker at hand would take for something else.
func (q Queue) checkVersion(f *faults, ac *amqp.Connection) {
	if q.DeliveryLimit == nil || *q.DeliveryLimit != Unlimited {
		return
	}
	version, _ := ac.Properties["version"].(string)
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < 4 {
		f.errs = append(f.errs, &amqperr.FieldError{
			Package: "topology", Field: f.at + ".DeliveryLimit", Broker: version,
			Problem: "Unlimited means none at all to RabbitMQ " + validate.Printable(version) + ", which drops each message at its first redelivery",
			Fix:     "upgrade that node, or leave it out: before 4.0 there is no limit by default",
		})
	}
}

// run makes the requests of each phase before those of the next, and returns the refusals in the
// order of the topology.
func run(ctx context.Context, ac *amqp.Connection, what string, phases ...[]step) error {
	chs := newChannels(ac)
	defer chs.close(ctx)
	total := 0
	for _, steps := range phases {
		total += len(steps)
	}
	errs := make([]error, total, total+1)
	failed := map[object]bool{}
	for _, steps := range phases {
		var able []step
		for _, s := range steps {
			if !slices.ContainsFunc(s.needs, func(o object) bool { return failed[o] }) {
				able = append(able, s)
			}
		}
		refused, lost := chs.run(ctx, able)
		for i, err := range refused {
			if err != nil {
				if errs[able[i].at] = able[i].refusal(err); errs[able[i].at] != nil {
					failed[able[i].makes] = true
				}
			}
		}
		if lost != nil {
			errs = append(errs, fmt.Errorf("topology: %s: %w", what, lost))
			break
		}
	}
	return errors.Join(errs...)
}

// phases returns the requests, those of each phase to be made before those of the next. The last one also looks for
// the objects that t only names: by then another instance may have declared them. Queues
// whose messages may become dead letters, and what leads to them, come last: where the letters
// go is there by then, so that none is lost meanwhile.
func (t Topology) phases() [][]step {
	phases := make([][]step, 5)
	at := 0
	add := func(phase int, s step) {
		s.at = at
		at++
		phases[phase] = append(phases[phase], s)
	}
	for _, x := range t.Exchanges {
		add(0, x.step())
	}
	last := map[string]bool{}
	for _, q := range t.Queues {
		if _, ok := q.request().args["x-dead-letter-exchange"]; ok {
			last[q.Name] = true
			add(3, q.step(func(string) {}))
		} else {
			add(1, q.step(func(string) {}))
		}
	}
	for _, b := range t.Bindings {
		if last[b.Queue] {
			add(4, b.step())
		} else {
			add(2, b.step())
		}
	}
	for _, r := range t.references(false) {
		add(4, r.needed())
	}
	return phases
}

func (x Exchange) step() step {
	r, o := x.request(), object{"exchange", x.Name}
	return step{
		makes: o,
		call: func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare(r.name, r.kind, r.durable, r.autoDelete, r.internal, false, r.args)
		},
		refusal: func(err *amqp.Error) error { return refusal(o, false, err) },
	}
}

func (q Queue) step(declared func(name string)) step {
	r, o := q.request(), object{"queue", q.Name}
	return step{
		makes: o,
		call: func(ch *amqp.Channel) error {
			d, err := ch.QueueDeclare(r.name, r.durable, r.autoDelete, r.exclusive, false, r.args)
			if err == nil {
				declared(d.Name)
			}
			return err
		},
		refusal: func(err *amqp.Error) error { return refusal(o, q.Exclusive, err) },
	}
}

func (b Binding) step() step {
	return step{
		needs: []object{{"exchange", b.Source}, {"queue", b.Queue}, {"exchange", b.Exchange}},
		call: func(ch *amqp.Channel) error {
			if b.Exchange != "" {
				return ch.ExchangeBind(b.Exchange, b.Key, b.Source, false, validate.Arguments(b.Arguments))
			}
			return ch.QueueBind(b.Queue, b.Key, b.Source, false, validate.Arguments(b.Arguments))
		},
		refusal: func(err *amqp.Error) error { return &DeclareError{b.label(), err} },
	}
}

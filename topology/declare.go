package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// Declare validates t and declares it on ac: exchanges, then queues, then bindings. Queues with a DeadLetter follow the
// bindings of the other queues, so that their targets exist. Existing objects are not changed, so that Declare may run
// any number of times and from many programs at once.
//
// Declare opens one channel for every four objects of a kind, at most eight, or as many as the connection has left, and
// closes them. [amqp.ErrChannelMax] means that the connection has none left.
//
// At the end Declare looks for the exchanges and queues that t sends messages to and does not declare: dead-letter
// exchanges, the queues that DeadLetter.RoutingKey names on the default exchange, alternate exchanges. RabbitMQ accepts
// missing ones and drops the messages. Declare makes one request for each, and none for exchanges that every broker has.
// It cannot see the targets that a policy names, nor the bindings of a dead-letter exchange. It assumes that an object
// exists if the user lacks the permission to see it.
//
// One failure does not stop the others, except for the bindings of the failed object. All failures are returned joined,
// in the order of t: a [*ConflictError] for an object that exists with other attributes, a [*DeclareError] for any other
// refusal, and at the end a [*MissingError] for each missing object that t only names; the objects that name it are declared. When
// ctx ends or the connection is lost, Declare returns within 250 ms and adds that cause once; objects declared before
// remain. If the broker does not answer when ctx ends, the connection is closed.
//
// An invalid topology is not declared at all (see [Topology.Validate]), nor is one with fields that this version of
// RabbitMQ would ignore or misunderstand: these are reported as a [*amqperr.FieldError] with Broker set.
func (t Topology) Declare(ctx context.Context, ac *amqp.Connection) error {
	if err := t.Validate(); err != nil {
		return err
	}
	var f faults
	for i, q := range t.Queues {
		f.at = place("Queues", i, q.Name)
		q.checkVersion(&f, ac)
	}
	if len(f.errs) > 0 {
		return errors.Join(f.errs...)
	}
	return run(ctx, ac, "declare", t.phases()...)
}

// Declare validates q, declares it on ac, and returns its name, which the broker chooses if q.Name is empty. Use it for a
// queue that belongs to one consumer, such as the exclusive queue of a subscriber, which exists as long as ac. Errors are
// the ones of [Topology.Declare]. If q.Name is empty and the target of dead letters is missing, no queue is declared.
func (q Queue) Declare(ctx context.Context, ac *amqp.Connection) (name string, err error) {
	if err := q.validate(ac); err != nil {
		return "", err
	}
	names := make(chan string, 1) // the request may outlive run for a moment when ctx ends
	declare := q.step(func(name string) { names <- name })
	phases := [][]step{{declare}, q.targets()}
	if q.Name == "" { // each attempt declares another queue, so that a missing target must be found before
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

// targets returns the requests that look for the targets of q's dead letters.
func (q Queue) targets() (steps []step) {
	refs := references{declared: map[object]bool{{"queue", q.Name}: q.Name != ""}, at: map[object]int{}}
	refs.queue(q.label(), q)
	for i, r := range refs.list {
		s := r.needed()
		s.at = i + 1 // after the queue
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
			"set a name, or Type: topology.Classic and Exclusive: true")
	}
	q.check(&f)
	if len(f.errs) == 0 {
		q.checkVersion(&f, ac)
	}
	return errors.Join(f.errs...)
}

// run makes the requests of each phase after the ones of the phase before. It returns the refusals in the order of the
// topology.
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

// phases returns the requests in phases. Queues with a dead-letter exchange and their bindings come last, so that no dead
// letter is lost before its target exists. The last phase also looks for the objects that t only names, because another
// instance may declare them in the meantime.
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
		needs: b.ends(),
		call: func(ch *amqp.Channel) error {
			if b.Exchange != "" {
				return ch.ExchangeBind(b.Exchange, b.Key, b.Source, false, validate.Arguments(b.Arguments))
			}
			return ch.QueueBind(b.Queue, b.Key, b.Source, false, validate.Arguments(b.Arguments))
		},
		refusal: func(err *amqp.Error) error { return &DeclareError{b.label(), err} },
	}
}

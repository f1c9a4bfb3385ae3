package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// Declare validates t and declares it on ac: exchanges, then queues, then bindings; of the
// queues those with a DeadLetter last, after the bindings of the others. Nothing that exists
// is changed, so that it may run as often as one likes and from many programs at once.
//
// It opens a channel for every four objects of a kind, eight at most, or as many as the
// connection has left, and closes them. [amqp.ErrChannelMax] means that there was not one.
//
// One failure does not stop the others, except for the bindings of what failed. All failures
// are returned joined, in the order of t: a [*ConflictError] for what exists with other
// attributes, a [*DeclareError] for any other refusal. When ctx or the connection ends,
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
		f.at = fmt.Sprintf("Queues[%d] %s", i, wire.Quote(q.Name))
		q.checkVersion(&f, ac)
	}
	if len(f.errs) > 0 {
		return errors.Join(f.errs...)
	}
	return run(ctx, ac, "declare", t.phases()...)
}

// Declare validates q, declares it on ac, and returns its name: the one that the broker
// chose if q.Name is empty. It is for a queue that belongs to one consumer, such as a
// subscriber's exclusive queue, which lives as long as ac; errors are those of
// [Topology.Declare].
func (q Queue) Declare(ctx context.Context, ac *amqp.Connection) (name string, err error) {
	if err := q.validate(ac); err != nil {
		return "", err
	}
	// The call may outlive run by a moment when ctx ends, so that the name is handed over
	// rather than shared.
	names := make(chan string, 1)
	err = run(ctx, ac, "declare "+object{"queue", q.Name}.String(), []step{q.step(func(name string) { names <- name })})
	if err != nil {
		return "", err
	}
	return <-names, nil
}

func (q Queue) validate(ac *amqp.Connection) error {
	f := faults{at: "Queue"}
	if q.Name != "" {
		f.at += " " + wire.Quote(q.Name)
	} else if q.kind() != Classic || !q.Exclusive {
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
		f.errs = append(f.errs, &FieldError{
			Package: "topology", Field: f.at + ".DeliveryLimit", Broker: version,
			Problem: "Unlimited means none at all to RabbitMQ " + version + ", which drops each message at its first redelivery",
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
				errs[able[i].at] = able[i].refusal(err)
				failed[able[i].makes] = true
			}
		}
		if lost != nil {
			errs = append(errs, fmt.Errorf("topology: %s: %w", what, lost))
			break
		}
	}
	return errors.Join(errs...)
}

// phases returns the requests, those of each phase to be made before those of the next. Queues
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
				return ch.ExchangeBind(b.Exchange, b.Key, b.Source, false, b.Arguments)
			}
			return ch.QueueBind(b.Queue, b.Key, b.Source, false, b.Arguments)
		},
		refusal: func(err *amqp.Error) error { return &DeclareError{b.label(), err} },
	}
}

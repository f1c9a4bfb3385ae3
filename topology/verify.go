package topology

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Verify validates t and asks the broker at ac whether all its exchanges and queues exist.
// It creates nothing. What does not exist is a [*MissingError], any other refusal (an
// exclusive queue of another connection, a queue whose node is down) a [*DeclareError]; all
// are returned joined, and ctx and the connection end it as they end [Topology.Declare].
//
// That is all that AMQP 0-9-1 can answer without creating anything: a passive declaration
// compares no attributes (specification, 1.6.2.1 and 1.7.2.1), and there is none for
// bindings. Declare does compare, and leaves alone what exists.
func (t Topology) Verify(ctx context.Context, ac *amqp.Connection) error {
	if err := t.Validate(); err != nil {
		return err
	}
	steps := make([]step, 0, len(t.Exchanges)+len(t.Queues))
	for _, x := range t.Exchanges {
		steps = append(steps, passive("exchange", x.Name, func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(x.Name, string(x.Type), false, false, false, false, nil)
		}))
	}
	for _, q := range t.Queues {
		steps = append(steps, passive("queue", q.Name, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclarePassive(q.Name, false, false, false, false, nil)
			return err
		}))
	}
	for i := range steps {
		steps[i].at = i
	}
	return run(ctx, ac, "verify", steps)
}

func passive(kind, name string, call func(*amqp.Channel) error) step {
	o := object{kind, name}
	return step{makes: o, call: call, refusal: func(err *amqp.Error) error {
		if missing(err) {
			return &MissingError{o.String(), err}
		}
		return &DeclareError{o.String(), err}
	}}
}

package topology

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Verify validates t and checks that all its exchanges and queues exist on ac's broker. It also checks the objects that t
// names without declaring them: dead-letter exchanges, the queues that dead letters reach through the default exchange,
// alternate exchanges, and both ends of bindings. It creates nothing. A missing object is reported as a [*MissingError],
// any other refusal (an exclusive queue of another connection, a queue whose node is down, a missing permission) as a
// [*DeclareError]. All are returned joined. Verify returns when ctx ends or the connection is lost, as
// [Topology.Declare] does.
//
// AMQP 0-9-1 allows no further checks without creating something. A passive declaration compares no attributes
// (specification, 1.6.2.1 and 1.7.2.1) and does not exist for bindings. Policies, which may name dead-letter and alternate
// exchanges too, are invisible. Declare compares attributes and does not change existing objects.
func (t Topology) Verify(ctx context.Context, ac *amqp.Connection) error {
	if err := t.Validate(); err != nil {
		return err
	}
	steps := make([]step, 0, len(t.Exchanges)+len(t.Queues))
	for _, x := range t.Exchanges {
		steps = append(steps, passive("exchange", x.Name))
	}
	for _, q := range t.Queues {
		steps = append(steps, passive("queue", q.Name))
	}
	for _, r := range t.references(true) {
		steps = append(steps, r.step())
	}
	for i := range steps {
		steps[i].at = i
	}
	return run(ctx, ac, "verify", steps)
}

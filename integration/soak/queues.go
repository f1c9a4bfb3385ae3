package soak

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// The names of the clients, which are their connection names too.
const (
	alice   = "a" // publishes to the work queues, in a sequence and what is retried, and works
	bob     = "b" // publishes to the work queues and what is retried, and works
	carol   = "c" // everything else: what is to be sent once, refused, returned, nacked, deleted, what is parked
	visitor = "v" // comes, publishes a little and goes, over and over
)

// clients are those that are always there.
var clients = []string{alice, bob, carol}

// The routes of messages, each to one queue at most.
const (
	toWork    = "work"    // one of the work queues
	toOrder   = "order"   // one consumer takes one at a time
	toRetry   = "retry"   // what fails there is retried, and parked
	toFull    = "full"    // a queue that is mostly full and then refuses
	toSide    = "side"    // a queue that faults delete
	toNowhere = "nowhere" // no queue: to be returned
	invalid   = "invalid" // not to be published at all
)

// queues are the names of one run, which may share its broker with others.
type queues struct {
	prefix string
	plan   *retry.Plan // of the retry route
	waits  []Wait

	mu   sync.Mutex
	side int // how many side queues were deleted
}

// hopTimeout is shorter than many faults, so that failed messages stay in their queue too.
const moveTimeout = time.Second

func newQueues(prefix string, logger *slog.Logger) (*queues, error) {
	q := &queues{prefix: prefix}
	delays := []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, time.Second}
	var err error
	q.plan, err = retry.New(retry.Config{
		Queue: q.name(toRetry), Source: &topology.Queue{}, Policy: retry.Schedule(delays...), MaxInProcessDelay: 20 * time.Millisecond,
		Rules: []retry.Rule{retry.OnError(errHopeless, retry.Park)}, MoveTimeout: moveTimeout, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	for _, delay := range delays {
		w := Wait{Delay: int64(delay)}
		for _, x := range q.plan.Topology().Queues {
			if x.MessageTTL == delay {
				w.Queue = x.Name
			}
		}
		q.waits = append(q.waits, w)
	}
	return q, nil
}

func (q *queues) name(s string) string { return q.prefix + "-" + s }

func (q *queues) work(i int) string { return q.name(fmt.Sprintf("work%d", i)) }

const workQueues = 2

// fullLength is what the full queue holds before it refuses.
const fullLength = 5

// all returns every queue that has to be empty in the end.
func (q *queues) all() []string {
	names := []string{q.name(toOrder), q.name(toFull), q.name("dead"), q.sideQueue(), q.name(toRetry), q.plan.ParkingQueue()}
	for _, x := range q.waits {
		if x.Queue != "" {
			names = append(names, x.Queue)
		}
	}
	for i := range workQueues {
		names = append(names, q.work(i))
	}
	return names
}

// topology is what the Setup of every client declares. Dead letters are passed on at least once, and from a queue
// without a delivery limit they do not go on.
func (q *queues) topology() topology.Topology {
	exchange := q.name("soak")
	dead := &topology.DeadLetter{RoutingKey: q.name("dead"), Strategy: topology.AtLeastOnce}
	t := topology.Topology{
		Exchanges: []topology.Exchange{{Name: exchange, Type: topology.Direct}},
		Queues: []topology.Queue{
			{Name: q.name("dead"), DeliveryLimit: new(topology.Unlimited)},
			{Name: q.name(toOrder), DeliveryLimit: new(topology.Unlimited)},
			{Name: q.name(toFull), MaxLength: fullLength, Overflow: topology.RejectPublish, DeliveryLimit: new(topology.Unlimited)},
		},
	}
	for i := range workQueues {
		t.Queues = append(t.Queues, topology.Queue{Name: q.work(i), DeadLetter: dead, Overflow: topology.RejectPublish})
		t.Bindings = append(t.Bindings, topology.Binding{Source: exchange, Queue: q.work(i), Key: q.work(i)})
	}
	t.Queues = append(t.Queues, q.plan.Topology().Queues...)
	t.Bindings = append(t.Bindings, topology.Binding{Source: exchange, Queue: q.name(toRetry), Key: toRetry})
	return t
}

// sideQueue is the name of the side queue now. Each has a name of its own: RabbitMQ may break when a quorum queue is
// declared right after one of the same name was deleted.
func (q *queues) sideQueue() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.name(fmt.Sprintf("side%d", q.side))
}

// retireSide returns the name of the side queue, which is to be deleted, and has the next one declared.
func (q *queues) retireSide() string {
	name := q.sideQueue()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.side++
	return name
}

// declareSide is the Declare of the side queue's consumer.
func (q *queues) declareSide(ctx context.Context, ac *amqp.Connection) (string, error) {
	name := q.sideQueue()
	return name, topology.Topology{
		Queues:   []topology.Queue{{Name: name, DeliveryLimit: new(topology.Unlimited)}},
		Bindings: []topology.Binding{{Source: q.name("soak"), Queue: name, Key: toSide}},
	}.Declare(ctx, ac)
}

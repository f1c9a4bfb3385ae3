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

// Names of the clients, also used as connection names.
const (
	alice   = "a" // publishes to the work queues, the ordered queue and the retry route; consumes
	bob     = "b" // publishes to the work queues and the retry route; consumes
	carol   = "c" // everything else: no resending, invalid, returned, nacked and deleted messages, parked messages
	visitor = "v" // repeatedly connects, publishes a few messages and closes
)

// clients are the permanent clients.
var clients = []string{alice, bob, carol}

// Routes of messages. Each leads to at most one queue.
const (
	toWork    = "work"    // one of the work queues
	toOrder   = "order"   // one consumer handles one message at a time
	toRetry   = "retry"   // failed messages are retried and parked
	toFull    = "full"    // a queue that is mostly full and then nacks
	toSide    = "side"    // a queue that faults delete
	toNowhere = "nowhere" // no queue: messages are returned
	invalid   = "invalid" // messages that the producer must reject
)

// queues are the queue names of one run. Their prefix is unique because runs may share a broker.
type queues struct {
	prefix string
	plan   *retry.Plan // of the retry route
	waits  []Wait

	mu   sync.Mutex
	side int // number of deleted side queues
}

// moveTimeout is shorter than many faults, so that some failed messages are requeued instead of moved.
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

// fullLength is the length limit of the full queue.
const fullLength = 5

// all returns the queues that must be empty after the run.
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

// topology returns the topology that the Setup of every client declares. Dead-lettering is at least once. The queue for
// dead letters has no delivery limit and no dead-letter exchange.
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

// sideQueue returns the current name of the side queue. Each side queue has a new name, because RabbitMQ may fail to
// declare a quorum queue right after one with the same name was deleted.
func (q *queues) sideQueue() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.name(fmt.Sprintf("side%d", q.side))
}

// retireSide returns the name of the side queue, which the caller deletes, and lets the consumer declare the next one.
func (q *queues) retireSide() string {
	name := q.sideQueue()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.side++
	return name
}

// declareSide is consumer.Config.Declare of the side queue's consumer.
func (q *queues) declareSide(ctx context.Context, ac *amqp.Connection) (string, error) {
	name := q.sideQueue()
	return name, topology.Topology{
		Queues:   []topology.Queue{{Name: name, DeliveryLimit: new(topology.Unlimited)}},
		Bindings: []topology.Binding{{Source: q.name("soak"), Queue: name, Key: toSide}},
	}.Declare(ctx, ac)
}

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// A nemesis does the faults: those of one client in a lane for each, those of all in one more, all lanes at the same time.
// No fault of a client begins while a node is away: there would be nothing to strike.
type nemesis struct {
	h       *History
	q       *queues
	nodes   []*rabbit.Broker
	cluster *rabbit.Cluster // nil for a single node
	traffic *traffic
	logf    func(format string, args ...any)
	links   map[string][]linkFaults // of each client, for each proxy

	pauses int // of nodes so far; the node lane's

	mu       sync.Mutex
	n        int            // faults begun
	done     int            // and done
	active   map[int]string // what is going on
	nodeDown bool           // a node is
	nodesUp  chan struct{}  // closed when it is back
	err      error          // why the run cannot go on
}

// tries is how often a fault is tried that cannot be done: the nodes may just be away.
const faultAttempts = 3

// sides are the links of a client that go through one proxy.
type linkFaults struct{ all, publishing, consuming *amqptest.Faults }

func newNemesis(h *History, q *queues, s *system, seen *traffic, say func(string, ...any)) *nemesis {
	n := &nemesis{h: h, q: q, nodes: s.nodes, cluster: s.cluster, traffic: seen, logf: say, links: map[string][]linkFaults{}, active: map[int]string{}}
	for _, client := range clients {
		for _, p := range s.proxies {
			n.links[client] = append(n.links[client], linkFaults{
				all:        p.ForLinks(func(l amqptest.Link) bool { return l.Name == client }),
				publishing: p.ForLinks(func(l amqptest.Link) bool { return l.Name == client && l.Publishes }),
				consuming:  p.ForLinks(func(l amqptest.Link) bool { return l.Name == client && l.Consumes }),
			})
		}
	}
	return n
}

// run does faults until ctx ends and what was planned is done, or until the limit ends, and returns when the last one is
// over. An error means that the broker did not come back.
func (n *nemesis) run(ctx, limit context.Context, p plan) error {
	limit, cancel := context.WithCancel(limit)
	defer cancel()
	var wg sync.WaitGroup
	for i, client := range clients {
		l := p.schedule(clientKinds, i, len(clients), clientRest)
		wg.Go(func() {
			n.runSchedule(ctx, limit, l, func(kind string) error { return n.injectClientFault(limit, kind, client, l.rng) })
		})
	}
	wg.Go(func() {
		l := p.schedule(nodeKinds, 0, 1, nodeRest)
		n.runSchedule(ctx, limit, l, func(kind string) error { return n.injectNodeFault(kind, l.rng) })
		if n.broken() != nil {
			cancel()
		}
	})
	wg.Wait()
	if n.err == nil {
		<-ctx.Done() // where there is nothing to do
	}
	return n.err
}

// follow does the faults of a lane, with a rest between them. One that could not be done is tried again.
func (n *nemesis) runSchedule(ctx, limit context.Context, l *schedule, strike func(kind string) error) {
	for ctx.Err() == nil || l.planned() {
		kind, rest := l.draw()
		if kind == "" {
			return
		}
		for range faultAttempts {
			sleep(limit, rest)
			if limit.Err() != nil || n.broken() != nil {
				return
			}
			err := strike(kind)
			if err == nil {
				break
			}
			n.logf("fault %s not done: %s", kind, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}

// during does a fault, which is over when do returns, and returns when its clients are at work again, or should be.
func (n *nemesis) runFault(x Fault, do func() error) error {
	n.mu.Lock()
	n.n++
	x.N = n.n
	n.active[x.N] = fmt.Sprint(x.Kind, x.Clients)
	n.mu.Unlock()
	n.h.Put(Record{Fault: &x})
	err := do()
	over := x
	over.Over = true
	if err != nil {
		over.Err = err.Error()
	}
	n.h.Put(Record{Fault: &over})
	n.awaitTraffic(x.Clients)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.active, x.N)
	if err == nil {
		n.done++
	}
	return err
}

// awaitTraffic waits until clients publish and consume again. Whether it took too long is for the judge to say.
func (n *nemesis) awaitTraffic(clients []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(maxResumeTime))
	defer cancel()
	var signs []<-chan struct{}
	for _, client := range clients {
		signs = append(signs, n.traffic.next(client, confirms), n.traffic.next(client, deliveries))
	}
	for _, s := range signs {
		select {
		case <-s:
		case <-ctx.Done():
		}
	}
}

// leaves notes that a node goes away, or comes back.
func (n *nemesis) setNodeDown(away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodeDown = away
	if away {
		n.nodesUp = make(chan struct{})
	} else {
		close(n.nodesUp)
	}
}

// whole waits until no node is away. Its error is of ctx.
func (n *nemesis) awaitNodes(ctx context.Context) error {
	n.mu.Lock()
	away, there := n.nodeDown, n.nodesUp
	n.mu.Unlock()
	if !away {
		return nil
	}
	select {
	case <-there:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *nemesis) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

func (n *nemesis) broken() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// progress returns how many faults were done, and what is going on.
func (n *nemesis) progress() (done int, now []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.active {
		now = append(now, x)
	}
	slices.Sort(now)
	return n.done, now
}

// between draws a duration.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

// sleep lets time pass, until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

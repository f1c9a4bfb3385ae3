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

// A nemesis injects the faults. Each client has a schedule of faults that affect only its links, and one more schedule
// has the faults of nodes. All schedules run concurrently. Client faults wait while the only node is unavailable.
type nemesis struct {
	h       *History
	q       *queues
	nodes   []*rabbit.Broker
	cluster *rabbit.Cluster // nil for a single node
	traffic *traffic
	logf    func(format string, args ...any)
	links   map[string][]linkFaults // by client, one for each proxy

	pauses int // number of pauses so far; only the node schedule uses it

	mu       sync.Mutex
	n        int            // number of faults started
	done     int            // number of faults completed
	active   map[int]string // faults in progress, by number
	nodeDown bool           // the only node is unavailable
	nodesUp  chan struct{}  // closed when it is available again
	err      error          // why the run must be aborted
}

// faultAttempts limits the attempts to inject a fault. An attempt fails, for example, while nodes are unavailable.
const faultAttempts = 3

// linkFaults inject faults into the links of one client through one proxy.
type linkFaults struct{ all, publishing, consuming *amqptest.Faults }

func newNemesis(h *History, q *queues, s *system, seen *traffic, logf func(string, ...any)) *nemesis {
	n := &nemesis{h: h, q: q, nodes: s.nodes, cluster: s.cluster, traffic: seen, logf: logf, links: map[string][]linkFaults{}, active: map[int]string{}}
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

// run injects faults until ctx ends and every schedule has injected its minimum, or until limit ends. It returns when
// no fault is in progress. An error means that the broker did not recover.
func (n *nemesis) run(ctx, limit context.Context, p plan) error {
	limit, cancel := context.WithCancel(limit)
	defer cancel()
	var wg sync.WaitGroup
	for i, client := range clients {
		l := p.schedule(clientKinds, i, len(clients), clientPause)
		wg.Go(func() {
			n.runSchedule(ctx, limit, l, func(kind string) error { return n.injectClientFault(limit, kind, client, l.rng) })
		})
	}
	wg.Go(func() {
		l := p.schedule(nodeKinds, 0, 1, nodePause)
		n.runSchedule(ctx, limit, l, func(kind string) error { return n.injectNodeFault(kind, l.rng) })
		if n.broken() != nil {
			cancel()
		}
	})
	wg.Wait()
	if n.err == nil {
		<-ctx.Done() // a plan without faults
	}
	return n.err
}

// runSchedule injects the faults of a schedule, with a pause before each. It retries a fault that could not be
// injected.
func (n *nemesis) runSchedule(ctx, limit context.Context, s *schedule, inject func(kind string) error) {
	for ctx.Err() == nil || s.planned() {
		kind, pause := s.draw()
		if kind == "" {
			return
		}
		for range faultAttempts {
			sleep(limit, pause)
			if limit.Err() != nil || n.broken() != nil {
				return
			}
			err := inject(kind)
			if err == nil {
				break
			}
			n.logf("fault %s failed: %s", kind, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}

// runFault runs do as a fault and records its start and end. It returns when the affected clients have traffic again or
// after maxResumeTime.
func (n *nemesis) runFault(x Fault, do func() error) error {
	n.mu.Lock()
	n.n++
	x.N = n.n
	n.active[x.N] = fmt.Sprint(x.Kind, x.Clients)
	n.mu.Unlock()
	n.h.Put(Record{Fault: &x})
	err := do()
	end := x
	end.Over = true
	if err != nil {
		end.Err = err.Error()
	}
	n.h.Put(Record{Fault: &end})
	n.awaitTraffic(x.Clients)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.active, x.N)
	if err == nil {
		n.done++
	}
	return err
}

// awaitTraffic waits until clients publish and consume again, or until maxResumeTime. The judge checks the time that it
// took.
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

// setNodeDown records that the only node becomes unavailable or available.
func (n *nemesis) setNodeDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodeDown = down
	if down {
		n.nodesUp = make(chan struct{})
	} else {
		close(n.nodesUp)
	}
}

// awaitNodes waits until the only node is available. It returns the error of ctx.
func (n *nemesis) awaitNodes(ctx context.Context) error {
	n.mu.Lock()
	down, up := n.nodeDown, n.nodesUp
	n.mu.Unlock()
	if !down {
		return nil
	}
	select {
	case <-up:
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

// progress returns the number of completed faults and the faults in progress.
func (n *nemesis) progress() (done int, active []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.active {
		active = append(active, x)
	}
	slices.Sort(active)
	return n.done, active
}

// between returns a random duration.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/amqpkit/amqpkit/amqptest"
)

// Kinds of faults.
const (
	KillWriter      = "kill_writer"      // SIGKILL, then a new process
	KillRelay       = "kill_relay"       // the same
	KillConsumer    = "kill_consumer"    // the same
	KillSender      = "kill_sender"      // a relay is killed while its messages do not reach the broker
	StopRelay       = "stop_relay"       // SIGTERM, then a new process
	PauseRelay      = "pause_relay"      // SIGSTOP, for up to 1.5 times the lease, then SIGCONT
	Cut             = "cut"              // connections to the broker are reset
	RestartBroker   = "restart_broker"   // in order
	KillBroker      = "kill_broker"      // SIGKILL, then a start with the same data
	RestartDatabase = "restart_database" // one of the two, in order
	KillDatabase    = "kill_database"    // one of the two, SIGKILL, then a start with the same data
)

// A fault is a kind of fault and its relative frequency.
type fault struct {
	kind   string
	weight int
}

var (
	serviceFaults  = []fault{{KillWriter, 3}, {KillRelay, 4}, {KillConsumer, 4}, {KillSender, 2}, {StopRelay, 2}, {PauseRelay, 2}, {Cut, 2}}
	brokerFaults   = []fault{{RestartBroker, 1}, {KillBroker, 1}}
	databaseFaults = []fault{{RestartDatabase, 3}, {KillDatabase, 3}}
)

// Streams of random numbers.
const (
	forServices = 1
	forServers  = 2
)

// Longest pauses between faults, and between the kill and the restart of a service.
const (
	servicePause = 2 * time.Second
	serverPause  = 6 * time.Second
	downTime     = 500 * time.Millisecond
)

// checkFaults refuses unknown kinds.
func checkFaults(kinds []string) error {
	for _, kind := range kinds {
		if !slices.ContainsFunc(slices.Concat(serviceFaults, brokerFaults, databaseFaults), func(f fault) bool { return f.kind == kind }) {
			return fmt.Errorf("unknown kind of fault %q", kind)
		}
	}
	return nil
}

// A nemesis injects faults into the services in one goroutine, and into the servers in another one.
type nemesis struct {
	s *system
	f *fleet
	o Options

	mu     sync.Mutex
	counts map[string]int
	err    error // of the last fault that failed
}

// kinds returns the faults that are possible, for services and for servers.
func (n *nemesis) kinds() (services, servers []fault) {
	if n.s.broker.Owned() {
		servers = append(servers, brokerFaults...)
	}
	if n.s.a.owned() {
		servers = append(servers, databaseFaults...)
	}
	notChosen := func(f fault) bool { return len(n.o.Faults) > 0 && !slices.Contains(n.o.Faults, f.kind) }
	return slices.DeleteFunc(slices.Clone(serviceFaults), notChosen), slices.DeleteFunc(servers, notChosen)
}

func (n *nemesis) counted() (total int, byKind map[string]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	byKind = map[string]int{}
	for kind, count := range n.counts {
		byKind[kind] = count
		total += count
	}
	return total, byKind
}

// run injects faults until ctx ends. Before that, it injects each possible kind once.
func (n *nemesis) run(ctx context.Context) error {
	var schedules sync.WaitGroup
	services, servers := n.kinds()
	frequent := servicePause
	if n.o.Kills > 0 {
		frequent = min(frequent, n.o.Duration/time.Duration(n.o.Kills))
	}
	schedules.Go(func() { n.follow(ctx, services, frequent, forServices, n.disturb) })
	schedules.Go(func() { n.follow(ctx, servers, serverPause, forServers, n.interrupt) })
	schedules.Wait()
	return n.err
}

// follow injects faults of the given kinds.
func (n *nemesis) follow(ctx context.Context, kinds []fault, longest time.Duration, stream uint64, inject func(string, *rand.Rand) error) {
	if len(kinds) == 0 {
		return
	}
	rng := rand.New(rand.NewPCG(n.o.Seed, stream)) //nolint:gosec // reproducible by seed
	first := rng.Perm(len(kinds))
	var drawn []string
	for _, k := range kinds {
		for range k.weight {
			drawn = append(drawn, k.kind)
		}
	}
	for len(first) > 0 || ctx.Err() == nil {
		kind := drawn[rng.IntN(len(drawn))]
		if len(first) > 0 {
			kind, first = kinds[first[0]].kind, first[1:]
		}
		if err := inject(kind, rng); err != nil {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.err = errors.Join(n.err, fmt.Errorf("%s: %w", kind, err))
			return
		}
		n.mu.Lock()
		n.counts[kind]++
		n.mu.Unlock()
		if stream == forServers {
			n.awaitProgress()
		}
		pause(ctx, upTo(rng, longest))
	}
}

// Progress of the services after the fault of a server.
const (
	enoughProgress = 100 // applied changes
	progressTime   = 10 * time.Second
)

// awaitProgress waits until the services work again, so that the next fault of a server finds something to interrupt.
func (n *nemesis) awaitProgress() {
	before, deadline := n.f.counted(applied), time.Now().Add(progressTime)
	for n.f.counted(applied) < before+enoughProgress && time.Now().Before(deadline) {
		time.Sleep(checkEvery / 10)
	}
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(d) + 1))
}

// disturb injects a fault into a service.
func (n *nemesis) disturb(kind string, rng *rand.Rand) error {
	for _, m := range n.f.members { // the judge reports processes that exited by themselves
		if m.hasExited() {
			if err := m.start(); err != nil {
				return err
			}
		}
	}
	one := func(role string) *member {
		list := n.f.role(role)
		return list[rng.IntN(len(list))]
	}
	again := func(m *member) error {
		time.Sleep(upTo(rng, downTime))
		return m.start()
	}
	switch kind {
	case KillWriter, KillRelay, KillConsumer:
		m := one(map[string]string{KillWriter: writers, KillRelay: relays, KillConsumer: consumers}[kind])
		m.kill()
		return again(m)
	case KillSender:
		// Messages are passed to the producers, but not sent.
		n.s.forRelays.Pause(amqptest.FromClient)
		time.Sleep(downTime + upTo(rng, downTime))
		m := one(relays)
		m.kill()
		n.s.forRelays.Cut()
		n.s.forRelays.Clear()
		return again(m)
	case StopRelay:
		m := one(relays)
		if err := m.stop(); err != nil && !m.hasExited() {
			return err
		}
		return again(m)
	case PauseRelay:
		m := one(relays)
		err := suspend(m.cmd.Process)
		if err == nil {
			time.Sleep(upTo(rng, m.spec.Lease*3/2))
			err = resume(m.cmd.Process)
		}
		if m.hasExited() {
			return nil
		}
		return err
	case Cut:
		[]*amqptest.Proxy{n.s.forRelays, n.s.forOthers}[rng.IntN(2)].Cut()
		return nil
	}
	panic("unknown fault " + kind)
}

// interruptTime bounds a fault of a server, including its start afterwards.
const interruptTime = 3 * time.Minute

// interrupt injects a fault into a server.
func (n *nemesis) interrupt(kind string, rng *rand.Rand) error {
	ctx, cancel := context.WithTimeout(context.Background(), interruptTime)
	defer cancel()
	d := []*database{n.s.a, n.s.b}[rng.IntN(2)]
	switch kind {
	case RestartBroker:
		return n.s.broker.Restart(ctx)
	case KillBroker:
		return errors.Join(n.s.broker.Kill(ctx), n.s.broker.Start(ctx))
	case RestartDatabase:
		return d.server.Restart(ctx)
	case KillDatabase:
		if err := d.server.Kill(); err != nil {
			return err
		}
		time.Sleep(upTo(rng, 2*downTime))
		return d.server.Restart(ctx)
	}
	panic("unknown fault " + kind)
}

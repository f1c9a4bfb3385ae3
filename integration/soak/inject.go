package soak

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/amqpkit/amqpkit/amqptest"
)

// silenceTime is how long a link must be silent for the client to detect it.
const silenceTime = 2*heartbeat + 500*time.Millisecond

// lossTime is how long a fault may take to close a connection by itself.
const lossTime = time.Second

// injectClientFault injects a fault into the links of one client.
func (n *nemesis) injectClientFault(ctx context.Context, kind, client string, rng *rand.Rand) error {
	if err := n.awaitNodes(ctx); err != nil {
		return err
	}
	if kind == Delete {
		return n.runFault(Fault{Kind: kind, Clients: []string{carol}}, n.deleteSide)
	}
	links := n.links[client]
	x := Fault{Kind: kind, Clients: []string{client}, Deaf: kind == Hole}
	return n.runFault(x, func() error {
		defer func() {
			for _, l := range links {
				l.all.Clear()
				l.publishing.Clear()
			}
		}()
		return n.inject(kind, client, links, rng)
	})
}

func (n *nemesis) inject(kind, client string, links []linkFaults, rng *rand.Rand) error {
	all := func(do func(linkFaults)) {
		for _, l := range links {
			do(l)
		}
	}
	wait := func(from, to time.Duration) { time.Sleep(between(rng, from, to)) }
	way := [...]amqptest.Direction{amqptest.FromClient, amqptest.FromBroker}[rng.IntN(2)]
	switch kind {
	case Close:
		return n.closeByForce(client)
	case Cut:
		side := rng.IntN(3)
		all(func(l linkFaults) { [...]*amqptest.Faults{l.all, l.publishing, l.consuming}[side].Cut() })
		return nil
	case Torn:
		bytes := int64(rng.IntN(5000))
		all(func(l linkFaults) { l.all.CutAfter(way, bytes) })
		wait(lossTime/2, lossTime)
	case Half:
		all(func(l linkFaults) { l.all.HalfClose(way) })
		wait(lossTime/2, lossTime)
	case Hole:
		all(func(l linkFaults) { l.all.Blackhole(amqptest.BothDirections) })
		time.Sleep(silenceTime)
		all(func(l linkFaults) { l.all.Cut() }) // connections cannot continue after lost bytes
	case Hold:
		all(func(l linkFaults) { l.all.Pause(amqptest.FromClient) })
		wait(300*time.Millisecond, 2*heartbeat)
	case Unheard:
		all(func(l linkFaults) { l.all.HoldConfirms() })
		wait(200*time.Millisecond, 800*time.Millisecond)
		all(func(l linkFaults) { l.all.Cut() })
	case Blocked:
		all(func(l linkFaults) { l.publishing.Inject(amqptest.FromBroker, amqptest.ConnectionBlocked("soak")) })
		wait(500*time.Millisecond, 1500*time.Millisecond)
		all(func(l linkFaults) { l.publishing.Inject(amqptest.FromBroker, amqptest.ConnectionUnblocked()) })
	case Slow:
		how := rng.IntN(3)
		all(func(l linkFaults) {
			switch how {
			case 0:
				l.all.Delay(way, 200*time.Millisecond)
			case 1:
				l.all.Throttle(way, 20_000)
			case 2:
				l.all.Fragment(way, 3)
			}
		})
		wait(500*time.Millisecond, 1500*time.Millisecond)
	}
	return nil
}

// closeByForce closes the connections of a client through the management commands of the available nodes.
func (n *nemesis) closeByForce(client string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	closed := 0
	var errs []error
	for _, b := range n.nodes {
		k, err := b.CloseConnection(ctx, client, "soak")
		closed += k
		errs = append(errs, err)
	}
	if closed == 0 {
		return errors.Join(append(errs, errors.New("no connection to close"))...)
	}
	return nil
}

// deleteSide deletes the side queue. The consumer then declares the next one.
func (n *nemesis) deleteSide() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	name := n.q.retireSide()
	var errs []error
	for _, b := range n.nodes { // at least one node is available
		err := b.DeleteQueue(ctx, name)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// nodeFaultTime bounds a node fault.
const nodeFaultTime = 3 * time.Minute

// injectNodeFault injects a fault into a node or the whole broker.
func (n *nemesis) injectNodeFault(kind string, rng *rand.Rand) error {
	ctx, cancel := context.WithTimeout(context.Background(), nodeFaultTime)
	defer cancel()
	i := rng.IntN(len(n.nodes))
	b := n.nodes[i]
	x := Fault{Kind: kind, Clients: clients}
	wait := func(from, to time.Duration) { time.Sleep(between(rng, from, to)) }
	var do func() error
	switch kind {
	case Alarm:
		do = func() error {
			if err := b.MemoryAlarm(ctx, true); err != nil {
				return errors.Join(err, b.MemoryAlarm(ctx, false))
			}
			wait(300*time.Millisecond, 900*time.Millisecond)
			return n.awaitBroker(ctx, b.MemoryAlarm(ctx, false))
		}
	case Pause:
		from, to := 300*time.Millisecond, 1200*time.Millisecond
		if n.pauses++; n.pauses%3 == 2 {
			from, to, x.Deaf = silenceTime, silenceTime+time.Second, len(n.nodes) == 1
		}
		x.Nodes = []int{i}
		do = func() error {
			if err := b.Pause(ctx); err != nil { // Docker cannot pause a process that is starting
				return err
			}
			wait(from, to)
			return n.awaitBroker(ctx, b.Unpause(ctx))
		}
	case Kill:
		x.Nodes, x.Outage = []int{i}, len(n.nodes) == 1
		do = func() error {
			if err := b.Kill(ctx); err != nil {
				return err
			}
			return n.awaitBroker(ctx, b.Start(ctx))
		}
	case Restart:
		x.Outage = len(n.nodes) == 1
		for i := range n.nodes {
			x.Nodes = append(x.Nodes, i)
		}
		do = func() error { return n.awaitBroker(ctx, n.restart(ctx)) }
	case Partition:
		x.Nodes = []int{i}
		do = func() error {
			if err := n.cluster.Disconnect(ctx, i); err != nil {
				return err
			}
			wait(2*time.Second, 15*time.Second)
			return n.awaitBroker(ctx, n.cluster.Connect(ctx, i))
		}
	}
	if len(x.Nodes) == len(n.nodes) && n.cluster == nil {
		n.setNodeDown(true)
		defer n.setNodeDown(false)
	}
	return n.runFault(x, do)
}

// restart restarts the broker like an upgrade: the nodes of a cluster in turn.
func (n *nemesis) restart(ctx context.Context) error {
	if n.cluster != nil {
		return n.cluster.RollingRestart(ctx)
	}
	return n.nodes[0].Restart(ctx)
}

// awaitBroker waits until all nodes of a cluster are available again. If the broker does not recover, it aborts the
// run.
func (n *nemesis) awaitBroker(ctx context.Context, err error) error {
	if err == nil && n.cluster != nil {
		err = n.cluster.Await(ctx)
	}
	if err != nil {
		n.fail(err)
	}
	return err
}

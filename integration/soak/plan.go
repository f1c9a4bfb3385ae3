package soak

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// The kinds of faults. The first ones concern one client, the others all.
const (
	Close   = "close"   // an operator closes the connections: 320 CONNECTION_FORCED
	Cut     = "cut"     // the connections are reset
	Torn    = "torn"    // a connection is reset amid a frame
	Half    = "half"    // one direction of the connections ends (FIN)
	Hole    = "hole"    // a black hole: nothing comes through, no hang-up either
	Hold    = "hold"    // nobody reads what the client sends
	Unheard = "unheard" // confirms are kept back, and then the connections are reset: stored, and nobody knows
	Blocked = "blocked" // connection.blocked, and some time later connection.unblocked
	Slow    = "slow"    // everything is late, or comes in small pieces
	Delete  = "delete"  // the side queue is deleted

	Alarm     = "alarm"     // a memory alarm is raised for real
	Pause     = "pause"     // a node is stopped where it is (SIGSTOP), and goes on
	Kill      = "kill"      // a node is killed (SIGKILL) and started again
	Restart   = "restart"   // orderly; in a cluster of every node, one after the other
	Partition = "partition" // a node of a cluster is cut off the network
)

// A kind of fault as far as the plan is concerned.
type kind struct {
	name      string
	weight    int              // how often it is drawn, once the minimum is planned
	owned     bool             // it takes a broker that is ours
	costly    bool             // it takes so long that a short run holds few
	clustered bool             // it takes a cluster
	duration  [2]time.Duration // about how long, with the rest before it and the recovery after it: on one node, in a cluster
}

var clientKinds = []kind{
	{name: Close, weight: 5, owned: true},
	{name: Cut, weight: 5},
	{name: Torn, weight: 2},
	{name: Half, weight: 2},
	{name: Unheard, weight: 2},
	{name: Hole, weight: 1},
	{name: Hold, weight: 1},
	{name: Blocked, weight: 1},
	{name: Slow, weight: 1},
	{name: Delete, weight: 2},
}

var nodeKinds = []kind{
	{name: Alarm, weight: 3, owned: true, duration: [2]time.Duration{3 * time.Second, 4 * time.Second}},
	{name: Pause, weight: 3, owned: true, duration: [2]time.Duration{4 * time.Second, 5 * time.Second}},
	{name: Kill, weight: 1, owned: true, costly: true, duration: [2]time.Duration{12 * time.Second, 20 * time.Second}},
	{name: Restart, weight: 1, owned: true, costly: true, duration: [2]time.Duration{12 * time.Second, 50 * time.Second}},
	{name: Partition, weight: 1, owned: true, costly: true, clustered: true, duration: [2]time.Duration{0 * time.Second, 25 * time.Second}},
}

// A run is valid with five faults of each kind, or as many as a short one can hold.
const (
	enough         = 5
	cheapEvery     = 12 * time.Second
	costlyEvery    = time.Minute
	costlyForThree = 2 * time.Minute // nodes restart one after the other, and then catch up
)

// How long a lane rests before a fault, at most: while the minimum is not done, and then, that of a client and that of the
// nodes. Between the latter there has to be time for work, and to see how fast clients recover from the former.
const (
	shortRest  = 600 * time.Millisecond
	clientRest = 1500 * time.Millisecond
	nodeRest   = 8 * time.Second
)

// A plan is which faults a run does, and in which order. The same seed makes the same plan.
type plan struct {
	seed     uint64
	minimums map[string]int // of the kinds that it draws from
}

// newPlan makes a plan of the chosen kinds, or of all that can be done.
func newPlan(seed uint64, duration time.Duration, chosen []string, owned bool, nodes int) (plan, error) {
	p := plan{seed: seed, minimums: map[string]int{}}
	unknown := slices.Clone(chosen)
	for _, k := range slices.Concat(clientKinds, nodeKinds) {
		unknown = slices.DeleteFunc(unknown, func(name string) bool { return name == k.name })
		if len(chosen) > 0 && !slices.Contains(chosen, k.name) || k.owned && !owned || k.clustered && nodes == 1 {
			continue
		}
		every := cheapEvery
		switch {
		case k.costly && nodes > 1:
			every = costlyForThree
		case k.costly:
			every = costlyEvery
		}
		p.minimums[k.name] = min(enough, max(1, int(duration/every)))
	}
	if len(unknown) > 0 {
		return plan{}, fmt.Errorf("soak: there are no faults of kind %q", unknown)
	}
	return p, p.fit(duration, nodes)
}

// clientTakes is kind.takes of every fault of a client, of which three happen at a time.
const clientFaultTime = 2500 * time.Millisecond

// fit lowers the minimums of node faults, which happen one after the other, until they fit into the duration. One of each
// kind must.
func (p plan) fit(duration time.Duration, nodes int) error {
	cost := func(k kind) time.Duration { return time.Duration(p.minimums[k.name]) * k.duration[min(nodes, 2)-1] }
	for {
		var sum, least time.Duration
		most := kind{}
		for _, k := range nodeKinds {
			sum += cost(k)
			if p.minimums[k.name] > 0 {
				least += k.duration[min(nodes, 2)-1]
			}
			if p.minimums[k.name] > 1 && cost(k) > cost(most) {
				most = k
			}
		}
		if most.name == "" || sum <= duration {
			return tooShort(duration, max(least, p.clientTime()), nodes)
		}
		p.minimums[most.name]--
	}
}

// clientsTake returns how long one fault of each kind that concerns a client takes.
func (p plan) clientTime() (least time.Duration) {
	for _, k := range clientKinds {
		if p.minimums[k.name] > 0 {
			least += clientFaultTime / time.Duration(len(clients))
		}
	}
	return least
}

func tooShort(duration, least time.Duration, nodes int) error {
	const step = 5 * time.Second
	if least <= duration {
		return nil
	}
	least = (least + step - 1).Truncate(step)
	return fmt.Errorf("soak: %v is too short for one fault of each kind on %d nodes; the shortest duration is %v", duration, nodes, least)
}

// rng returns the source of chance of one lane.
func (p plan) rng(lane int) *rand.Rand { return rand.New(rand.NewPCG(p.seed, uint64(lane))) } //nolint:gosec // to be repeated by its seed

// A lane is the faults that one of several goroutines does: first its share of the minimums, in an order that is common
// to them, then what it draws.
type schedule struct {
	rng    *rand.Rand // for how they are done
	first  []string
	next   int
	step   int
	rest   time.Duration // at most, once the first ones are done
	drawn  []string      // as often as their weight
	choice *rand.Rand
}

func (p plan) schedule(kinds []kind, number, of int, rest time.Duration) *schedule {
	l := &schedule{rng: p.rng(number), next: number, step: of, rest: rest, choice: p.rng(1000 + number)}
	for _, k := range kinds {
		n := p.minimums[k.name]
		l.first = append(l.first, slices.Repeat([]string{k.name}, n)...)
		if n > 0 {
			l.drawn = append(l.drawn, slices.Repeat([]string{k.name}, k.weight)...)
		}
	}
	p.rng(2000).Shuffle(len(l.first), func(i, j int) { l.first[i], l.first[j] = l.first[j], l.first[i] })
	return l
}

// planned reports whether there is something left of its share.
func (l *schedule) planned() bool { return l.next < len(l.first) }

// draw returns the kind of the next fault, or "" if there is nothing to do, and how long to rest before it.
func (l *schedule) draw() (kind string, rest time.Duration) {
	switch {
	case l.planned():
		l.next += l.step
		return l.first[l.next-l.step], between(l.rng, 0, shortRest)
	case len(l.drawn) == 0:
		return "", 0
	}
	return l.drawn[l.choice.IntN(len(l.drawn))], between(l.rng, 0, l.rest)
}

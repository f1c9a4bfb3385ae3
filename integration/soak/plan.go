package soak

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kinds of faults. The first group affects one client, the second group all clients.
const (
	Close   = "close"   // an operator closes the connections with 320 CONNECTION_FORCED
	Cut     = "cut"     // the connections are reset (RST)
	Torn    = "torn"    // the connections are reset after some bytes, mostly within a frame
	Half    = "half"    // one direction of the connections is closed (FIN)
	Hole    = "hole"    // all bytes are dropped, and the connections stay open
	Hold    = "hold"    // bytes from the client are not read
	Unheard = "unheard" // confirms are held back and the connections are reset: the messages are stored but unconfirmed
	Blocked = "blocked" // the broker sends connection.blocked and later connection.unblocked
	Slow    = "slow"    // frames are delayed, throttled or fragmented
	Delete  = "delete"  // the side queue is deleted

	Alarm     = "alarm"     // the broker raises a memory alarm
	Pause     = "pause"     // a node is stopped (SIGSTOP) and continued
	Kill      = "kill"      // a node is killed (SIGKILL) and started again
	Restart   = "restart"   // a node is restarted; in a cluster every node in turn
	Partition = "partition" // a cluster node is disconnected from the network
)

// A kind describes a kind of fault for the plan.
type kind struct {
	name      string
	weight    int              // relative frequency after the minimum
	owned     bool             // needs a broker that the run started
	costly    bool             // takes long, so a short run has few of them
	clustered bool             // needs a cluster
	duration  [2]time.Duration // approximate duration with the preceding pause and the recovery: on one node, in a cluster
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

// A valid run has five faults of each kind, or fewer if it is short.
const (
	enough          = 5
	cheapEvery      = 12 * time.Second
	costlyEvery     = time.Minute
	costlyInCluster = 2 * time.Minute // nodes restart in turn and then synchronize
)

// Maximum pauses before a fault: before the minimum is reached, and afterwards for client schedules and for the node
// schedule. The long pause of the node schedule leaves time to measure the recovery from client faults.
const (
	shortPause  = 600 * time.Millisecond
	clientPause = 1500 * time.Millisecond
	nodePause   = 8 * time.Second
)

// A plan determines the faults of a run and their order. The same seed produces the same plan.
type plan struct {
	seed     uint64
	minimums map[string]int // by kind; kinds that are not possible are absent
}

// newPlan returns a plan of the chosen kinds, or of all possible kinds if none is chosen.
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
			every = costlyInCluster
		case k.costly:
			every = costlyEvery
		}
		p.minimums[k.name] = min(enough, max(1, int(duration/every)))
	}
	if len(unknown) > 0 {
		return plan{}, fmt.Errorf("soak: unknown kinds of faults %q", unknown)
	}
	return p, p.fit(duration, nodes)
}

// clientFaultTime is the kind.duration of client faults. The three client schedules run concurrently.
const clientFaultTime = 2500 * time.Millisecond

// fit lowers the minimums of node faults, which run in sequence, until they fit into the duration. At least one fault
// of each kind must fit.
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

// clientTime returns the time for one client fault of each kind.
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

// rng returns the random source of a stream.
func (p plan) rng(stream int) *rand.Rand { return rand.New(rand.NewPCG(p.seed, uint64(stream))) } //nolint:gosec // reproducible by seed

// A schedule is the sequence of faults that one goroutine injects: first its share of the minimums, in an order that
// all schedules share, then random kinds.
type schedule struct {
	rng    *rand.Rand // for pauses and parameters
	first  []string
	next   int
	step   int
	pause  time.Duration // maximum pause after the minimums
	drawn  []string      // kinds, repeated by weight
	choice *rand.Rand
}

func (p plan) schedule(kinds []kind, number, of int, pause time.Duration) *schedule {
	s := &schedule{rng: p.rng(number), next: number, step: of, pause: pause, choice: p.rng(1000 + number)}
	for _, k := range kinds {
		n := p.minimums[k.name]
		s.first = append(s.first, slices.Repeat([]string{k.name}, n)...)
		if n > 0 {
			s.drawn = append(s.drawn, slices.Repeat([]string{k.name}, k.weight)...)
		}
	}
	p.rng(2000).Shuffle(len(s.first), func(i, j int) { s.first[i], s.first[j] = s.first[j], s.first[i] })
	return s
}

// planned reports whether part of the schedule's share of the minimums is left.
func (s *schedule) planned() bool { return s.next < len(s.first) }

// draw returns the kind of the next fault and the pause before it, or "" if the plan has no kinds.
func (s *schedule) draw() (kind string, pause time.Duration) {
	switch {
	case s.planned():
		s.next += s.step
		return s.first[s.next-s.step], between(s.rng, 0, shortPause)
	case len(s.drawn) == 0:
		return "", 0
	}
	return s.drawn[s.choice.IntN(len(s.drawn))], between(s.rng, 0, s.pause)
}

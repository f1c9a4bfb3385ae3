package side

import (
	"runtime"
	"slices"
	"syscall"
	"time"
)

// A Result holds the measurements of one run of a program. Durations are encoded in nanoseconds.
type Result struct {
	Messages int           `json:"messages"`
	Wall     time.Duration `json:"wall"`
	CPU      time.Duration `json:"cpu"`    // of this process, user and system
	Allocs   uint64        `json:"allocs"` // objects allocated

	P50 time.Duration `json:"p50,omitempty"` // latency of a message, from its publish to its outcome
	P99 time.Duration `json:"p99,omitempty"`
	Gap time.Duration `json:"gap,omitempty"` // the longest time without progress

	DatabaseCPU time.Duration `json:"database_cpu,omitempty"` // of Task.DatabasePID and its children
	BrokerCPU   time.Duration `json:"broker_cpu,omitempty"`   // of Task.BrokerPID and its children
	QueryTime   time.Duration `json:"query_time,omitempty"`   // sum of the durations of all statements
}

// A Clock measures the time, CPU time and allocations of this process between Start and Stop.
type Clock struct {
	began  time.Time
	cpu    time.Duration
	allocs uint64

	servers  [2]int // process ids
	serverAt [2]time.Duration
}

// Start runs the garbage collector and starts a measurement.
func Start() Clock {
	runtime.GC()
	return Clock{allocs: mallocs(), cpu: cpuTime(), began: time.Now()}
}

// StartWith also measures the CPU time of the servers of a task.
func StartWith(t Task) Clock {
	servers := [2]int{t.DatabasePID, t.BrokerPID}
	at := [2]time.Duration{treeTime(servers[0]), treeTime(servers[1])}
	c := Start()
	c.servers, c.serverAt = servers, at
	return c
}

// Stop returns the measurements since Start.
func (c Clock) Stop(messages int) Result {
	wall, cpu := time.Since(c.began), cpuTime()-c.cpu
	r := Result{Messages: messages, Wall: wall, CPU: cpu, Allocs: mallocs() - c.allocs}
	r.DatabaseCPU = treeTime(c.servers[0]) - c.serverAt[0]
	r.BrokerCPU = treeTime(c.servers[1]) - c.serverAt[1]
	return r
}

// WithLatencies returns r with the percentiles of times. It sorts times in place.
func (r Result) WithLatencies(times []time.Duration) Result {
	slices.Sort(times)
	r.P50, r.P99 = times[len(times)/2], times[len(times)*99/100]
	return r
}

// cpuTime returns the user and system time of this process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// A Gap measures the longest time between two consecutive calls of Step.
type Gap struct {
	last    time.Time
	longest time.Duration
}

// Step records progress.
func (g *Gap) Step() {
	now := time.Now()
	if !g.last.IsZero() {
		g.longest = max(g.longest, now.Sub(g.last))
	}
	g.last = now
}

// Longest returns the longest gap so far.
func (g *Gap) Longest() time.Duration { return g.longest }

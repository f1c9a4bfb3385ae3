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
}

// A Clock measures the time, CPU time and allocations of this process between Start and Stop.
type Clock struct {
	began  time.Time
	cpu    time.Duration
	allocs uint64
}

// Start runs the garbage collector and starts a measurement.
func Start() Clock {
	runtime.GC()
	return Clock{allocs: mallocs(), cpu: cpuTime(), began: time.Now()}
}

// Stop returns the measurements since Start.
func (c Clock) Stop(messages int) Result {
	wall, cpu := time.Since(c.began), cpuTime()-c.cpu
	return Result{Messages: messages, Wall: wall, CPU: cpu, Allocs: mallocs() - c.allocs}
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

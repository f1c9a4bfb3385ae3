package side

import (
	"runtime"
	"slices"
	"syscall"
	"time"
)

// A Result is what one run of a program took. Durations are in nanoseconds.
type Result struct {
	Messages int           `json:"messages"`
	Wall     time.Duration `json:"wall"`
	CPU      time.Duration `json:"cpu"`    // of this process, user and system
	Allocs   uint64        `json:"allocs"` // objects allocated

	P50 time.Duration `json:"p50,omitempty"` // of a message, from its publish to its outcome
	P99 time.Duration `json:"p99,omitempty"`
	Gap time.Duration `json:"gap,omitempty"` // the longest time without progress
}

// A Clock measures this process from Start to Stop.
type Clock struct {
	began  time.Time
	cpu    time.Duration
	allocs uint64
}

// Start begins to measure, with what came before collected.
func Start() Clock {
	runtime.GC()
	return Clock{allocs: mallocs(), cpu: cpuTime(), began: time.Now()}
}

// Stop returns what has passed since Start.
func (c Clock) Stop(messages int) Result {
	wall, cpu := time.Since(c.began), cpuTime()-c.cpu
	return Result{Messages: messages, Wall: wall, CPU: cpu, Allocs: mallocs() - c.allocs}
}

// WithLatencies adds the percentiles of times, which it sorts.
func (r Result) WithLatencies(times []time.Duration) Result {
	slices.Sort(times)
	r.P50, r.P99 = times[len(times)/2], times[len(times)*99/100]
	return r
}

// cpuTime is what this process has used, in user and system mode.
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

// A Gap finds the longest time between two steps.
type Gap struct {
	last    time.Time
	longest time.Duration
}

// Step tells of progress.
func (g *Gap) Step() {
	now := time.Now()
	if !g.last.IsZero() {
		g.longest = max(g.longest, now.Sub(g.last))
	}
	g.last = now
}

// Longest is the longest time so far.
func (g *Gap) Longest() time.Duration { return g.longest }

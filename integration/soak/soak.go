package soak

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure a run.
type Options struct {
	Duration time.Duration // of the phase with faults; a slow machine may take up to twice as long to inject the minimums
	Nodes    int           // number of nodes: 1, or 3 for a cluster
	Seed     uint64        // determines the faults and the messages, but not their timing
	Kinds    []string      // kinds of faults; empty means all possible ones
	Rate     int           // target rate without faults, in messages per second
	Dir      string        // directory of the history
	Progress io.Writer     // receives a line every few seconds
}

const (
	enoughRate    = 300 // confirmed messages per second that a valid run needs
	startTime     = time.Minute
	startDelay    = 3 * time.Second // RabbitMQ 4.3.6 may lose the log of a quorum queue if it is killed right after the declaration
	outcomeTime   = time.Minute     // for the last outcomes; longer than any publish timeout
	drainBound    = 2 * time.Minute // for the queues to become empty
	progressEvery = 5 * time.Second
	probeInterval = 5 * time.Millisecond
)

// quiet is how long all queues must be empty before the run ends: ten seconds, or three seconds if the run is shorter
// than five minutes.
func (o Options) quiet() time.Duration {
	if o.Duration < 5*time.Minute {
		return 3 * time.Second
	}
	return 10 * time.Second
}

// publishTimeout is the timeout of most publishes. Except in short runs, it is longer than any fault.
func (o Options) publishTimeout() time.Duration {
	return max(10*time.Second, min(40*time.Second, o.Duration))
}

// Check rejects options that no run can satisfy: an unknown kind of fault, or a duration that is too short for one
// fault of each kind. The error names the shortest duration.
func (o Options) Check() error {
	_, err := newPlan(o.Seed, o.Duration, o.Kinds, os.Getenv("AMQP_URL") == "", o.Nodes)
	return err
}

// Run executes a run and returns the path of its history. The error reports why the run did not finish. The history
// exists even then, if it could be created.
func Run(ctx context.Context, o Options) (path string, err error) {
	path = filepath.Join(o.Dir, "history.jsonl")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	log, err := os.Create(filepath.Join(o.Dir, "log.txt"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	r := &runner{o: o, h: NewHistory(f), logger: slog.New(slog.NewTextHandler(log, nil)), began: time.Now()}
	if err = r.run(ctx); err != nil {
		r.end.Err = err.Error()
	}
	r.h.Put(Record{End: &r.end})
	return path, errors.Join(err, r.h.Flush())
}

// A runner executes one run.
type runner struct {
	o      Options
	h      *History
	logger *slog.Logger
	began  time.Time

	end        End
	s          *system
	q          *queues
	w          *workload
	nemesis    *nemesis
	phase      atomic.Value // string, for the progress lines
	timerDelay atomic.Int64 // total delay of timers since the last sample
}

func (r *runner) logf(format string, args ...any) {
	fmt.Fprintf(r.o.Progress, "%6.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *runner) run(ctx context.Context) (err error) {
	if r.s, err = startSystem(ctx, r.o.Nodes, r.o.Progress); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.s.close()) }()
	r.logf("%s, seed %d", r.s, r.o.Seed)
	p, err := newPlan(r.o.Seed, r.o.Duration, r.o.Kinds, r.s.owned(), r.o.Nodes)
	if err != nil {
		return err
	}
	if r.q, err = newQueues("soak"+strings.ToLower(rand.Text()[:6]), r.logger); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.s.clear(r.q)) }()
	seen := newTraffic()
	for i, x := range r.s.proxies {
		x.Observe(observe(r.h, i, seen))
	}
	r.w = &workload{h: r.h, q: r.q, urls: r.s.urls(), seed: r.o.Seed, rate: r.o.Rate, publishTimeout: r.o.publishTimeout(), logger: r.logger}
	r.w.makeWorkers()
	r.h.Put(Record{Settings: r.describe(p)})
	r.sample(ctx, "before")

	r.nemesis = newNemesis(r.h, r.q, r.s, seen, r.logf)
	watched, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { r.measureTimerDelay(watched) })
	watching.Go(func() { r.watch(watched) })
	defer watching.Wait()
	defer stop()
	return r.work(ctx, p)
}

func (r *runner) describe(p plan) *Settings {
	run := &Settings{
		Seed: r.o.Seed, Nodes: r.o.Nodes, Broker: r.s.String(), Duration: int64(r.o.Duration), Minimums: p.minimums, Rate: enoughRate,
		MaxInFlight: maxInFlight, ConfirmTimeout: int64(confirmTimeout), Heartbeat: int64(heartbeat), Reconnect: int64(backoffCap + dialTimeout),
		Clients: map[string]Client{}, Consumers: r.w.consumers(),
		Retry: Retry{Queue: r.q.name(toRetry), Waits: r.q.waits, Parked: r.q.plan.ParkingQueue(), Enough: int(r.o.Duration / time.Second)},
	}
	for _, client := range clients {
		run.Clients[client] = Client{Publishes: true, Consumes: true}
	}
	return run
}

// work runs the workload and the nemesis, from the first connection to the last sample.
func (r *runner) work(ctx context.Context, p plan) error {
	r.setPhase("starting")
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := r.w.connect(starting); err != nil {
		return err
	}
	publishing, stopPublishing := context.WithCancel(ctx)
	defer stopPublishing()
	failing, stopFailures := context.WithCancel(context.Background())
	defer stopFailures()
	r.w.publishing, r.w.failing = publishing, failing
	r.w.consume()
	if err := r.w.publish(); err != nil {
		return err
	}
	r.nemesis.awaitTraffic(clients)
	sleep(ctx, startDelay)

	r.setPhase("faults")
	faults, stopFaults := context.WithTimeout(ctx, r.o.Duration)
	defer stopFaults()
	limit, giveUp := context.WithTimeout(ctx, 2*r.o.Duration)
	defer giveUp()
	began := r.h.Now()
	err := r.nemesis.run(faults, limit, p)
	r.end.Lasted = r.h.Now() - began
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("soak: %w", err)
	}

	r.setPhase("waiting for outcomes")
	stopPublishing()
	within(outcomeTime, r.w.publishers.Wait) // publishes that have not returned have no outcome
	r.setPhase("draining")
	stopFailures()
	r.drain(ctx)
	r.setPhase("closing")
	r.w.stopWorkers()
	r.w.close()
	for _, name := range r.q.all() {
		ready, unacked, err := r.s.counts(ctx, name)
		if err != nil {
			return err
		}
		r.h.Put(Record{Queue: &Queue{Name: name, Ready: ready, Unacked: unacked}})
	}
	r.sampleAfter(ctx)
	return ctx.Err()
}

// within reports whether wait returns within the limit. Otherwise its goroutine is abandoned, and the judge reports it.
func within(limit time.Duration, wait func()) bool {
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// drain waits until every queue has been empty for some time, or until drainBound. The judge reports the remaining
// messages.
func (r *runner) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainBound)
	defer cancel()
	awaitQuiet(ctx, r.o.quiet(), func() bool {
		for _, name := range r.q.all() {
			if ready, unacked, err := r.s.counts(ctx, name); err != nil || ready+unacked > 0 {
				return false
			}
		}
		return true
	})
}

// awaitQuiet returns when repeated checks have found the queues empty for the quiet time, or when ctx ends. One check
// may take longer than the quiet time and miss a message that moves between two queues, so at least two checks are
// needed.
func awaitQuiet(ctx context.Context, quiet time.Duration, empty func() bool) {
	for since := (time.Time{}); ctx.Err() == nil; sleep(ctx, 200*time.Millisecond) {
		began := time.Now()
		switch {
		case !empty():
			since = time.Time{}
		case since.IsZero():
			since = began
		case began.Sub(since) >= quiet:
			return
		}
	}
}

func (r *runner) setPhase(phase string) {
	r.phase.Store(phase)
	r.logf("%s", phase)
}

// measureTimerDelay sums the delay of timers, as a measure of the load of the machine.
func (r *runner) measureTimerDelay(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		sleep(ctx, probeInterval)
		if over := time.Since(began) - probeInterval; over > probeInterval {
			r.timerDelay.Add(int64(over))
		}
	}
}

// watch takes a sample every second and prints the progress every few seconds.
func (r *runner) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	printed := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r.sample(ctx, "")
		if phase := r.phase.Load(); time.Since(printed) >= progressEvery {
			printed = time.Now()
			done, active := r.nemesis.progress()
			r.logf("%s: %d confirmed, %d faults, in progress: %s", phase, r.w.confirmed.Load(), done, strings.Join(active, ", "))
		}
	}
}

func (r *runner) sample(ctx context.Context, when string) {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	x := Sample{
		When: when, Goroutines: toolkitGoroutines(), Heap: memory.HeapInuse, Sockets: tcpSockets(), Connections: -1,
		TimerDelay: r.timerDelay.Swap(0), Confirmed: int(r.w.confirmed.Load()),
	}
	if when != "" {
		x.Connections = r.s.connections(ctx)
	}
	r.h.Put(Record{Sample: &x})
}

// sampleAfter takes the last sample, when no goroutine or connection is left or after the broker had time to notice the
// closed connections.
func (r *runner) sampleAfter(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, heartbeat*5/2)
	defer cancel()
	for ctx.Err() == nil && (toolkitGoroutines() > 0 || r.s.connections(ctx) > 0) {
		sleep(ctx, 100*time.Millisecond)
	}
	r.sample(context.WithoutCancel(ctx), "after")
}

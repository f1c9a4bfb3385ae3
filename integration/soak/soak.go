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

// Options say what a run is to be.
type Options struct {
	Duration time.Duration // of the part with faults; a slow machine may take up to twice as long to do what is planned
	Nodes    int           // one, or a cluster of as many
	Seed     uint64        // decides about the faults and the messages, but not about time
	Kinds    []string      // of faults; empty means all that can be done
	Rate     int           // messages a second to aim at while nothing is wrong
	Dir      string        // where the history is written
	Progress io.Writer     // gets a line every few seconds
}

const (
	enoughRate    = 300 // confirmed a second make a run valid
	startTime     = time.Minute
	startDelay    = 3 * time.Second // RabbitMQ 4.3.6, killed right after a quorum queue was declared, may forget its log
	outcomeTime   = time.Minute     // for the last publishes to end: none lives as long
	drainBound    = 2 * time.Minute // for the queues to be empty
	progressEvery = 5 * time.Second
	probeInterval = 5 * time.Millisecond
)

// quiet is how long all queues have to be empty before nothing more is expected: ten seconds, or three after a run of
// less than five minutes.
func (o Options) quiet() time.Duration {
	if o.Duration < 5*time.Minute {
		return 3 * time.Second
	}
	return 10 * time.Second
}

// patience is how long most publishers wait for an outcome: longer than any fault lasts, where the run does.
func (o Options) publishTimeout() time.Duration {
	return max(10*time.Second, min(40*time.Second, o.Duration))
}

// Check reports what no run could do: an unknown kind of fault, or a duration that is too short for one of each kind, with
// the shortest one.
func (o Options) Check() error {
	_, err := newPlan(o.Seed, o.Duration, o.Kinds, os.Getenv("AMQP_URL") == "", o.Nodes)
	return err
}

// Run does what the options say and returns the path of the history. The error is of what kept the run from being
// finished; a history that was begun is there all the same.
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

// A runner is one run.
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
	phase      atomic.Value // string, for the progress
	timerDelay atomic.Int64 // by how much timers were late, in sum, since the last sample
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

// work is the run, from the first client to the last.
func (r *runner) work(ctx context.Context, p plan) error {
	r.setPhase("starting")
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := r.w.connect(starting); err != nil {
		return err
	}
	publishing, stopPublishing := context.WithCancel(ctx)
	defer stopPublishing()
	calm, becalm := context.WithCancel(context.Background())
	defer becalm()
	r.w.publishing, r.w.failing = publishing, calm
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
	within(outcomeTime, r.w.publishers.Wait) // whoever has not returned by then has no outcome
	r.setPhase("draining")
	becalm()
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

// within reports whether wait returns in time. If not, it is left behind, for the judge to see.
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

// drain returns when every queue has been empty for some time. What is left after all is for the judge.
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

// awaitQuiet returns when one look after another has found nothing for some time, or when ctx ends. A look may take longer
// than that time, and what it misses was perhaps on its way from one queue to another: so it takes two of them at least.
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

// probe sums up by how much timers are late: what a machine that does other things too withholds from everyone.
func (r *runner) measureTimerDelay(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		sleep(ctx, probeInterval)
		if over := time.Since(began) - probeInterval; over > probeInterval {
			r.timerDelay.Add(int64(over))
		}
	}
}

// watch takes a sample every second, and says now and then how far things are.
func (r *runner) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r.sample(ctx, "")
		if phase := r.phase.Load(); time.Since(told) >= progressEvery {
			told = time.Now()
			done, now := r.nemesis.progress()
			r.logf("%s: %d confirmed, %d faults, now %s", phase, r.w.confirmed.Load(), done, strings.Join(now, ", "))
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

// rest takes the last sample, once there is nothing left behind or the broker had time to notice what is gone.
func (r *runner) sampleAfter(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, heartbeat*5/2)
	defer cancel()
	for ctx.Err() == nil && (toolkitGoroutines() > 0 || r.s.connections(ctx) > 0) {
		sleep(ctx, 100*time.Millisecond)
	}
	r.sample(context.WithoutCancel(ctx), "after")
}

package soak

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options configure a run.
type Options struct {
	Database string        // Postgres, MariaDB or SQLite
	Duration time.Duration // of the phase with faults; it is extended until each possible kind of fault has happened
	Seed     uint64        // determines the faults and the changes, but not their timing
	Kills    int           // the minimum number of faults; the phase is extended to at most twice its duration for them
	Faults   []string      // the kinds of faults; empty means all possible ones
	Drain    time.Duration // the time in which the databases must agree after the last fault
	Dir      string        // folder for the logs of the worker processes
	Program  string        // the program of the worker processes, which calls Work; empty means this one
	Progress io.Writer     // receives a line every few seconds
}

const (
	itemCount     = 60
	lease         = 3 * time.Second
	readyTime     = time.Minute
	progressEvery = 5 * time.Second
	checkEvery    = 200 * time.Millisecond
	slowStart     = 30 * time.Second // for the first messages
	longEnough    = 30 * time.Second // a run in which the inbox must have removed duplicates
	mostLag       = 3000             // changes that were committed but not applied
	leastRate     = 10               // committed changes for each second of the phase with faults
)

// services are the numbers of processes.
var services = map[string]int{relays: 3, consumers: 2, writers: 3}

// Run executes a run. The error reports why it could not be finished.
func Run(ctx context.Context, o Options) (*Result, error) {
	if dialects[o.Database] == "" {
		return nil, fmt.Errorf("soak: unknown database %q; use one of %q", o.Database, slices.Sorted(maps.Keys(dialects)))
	}
	if o.Duration < time.Second || o.Drain < time.Second || o.Kills < 0 {
		return nil, errors.New("soak: the duration and the time to drain must be at least 1s, and kills not negative")
	}
	if err := checkFaults(o.Faults); err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	if o.Program == "" {
		var err error
		if o.Program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("soak: %w", err)
		}
	}
	r := &runner{o: o, began: time.Now(), result: &Result{Verdict: Valid, Seed: o.Seed}}
	r.f = &fleet{program: o.Program, dir: o.Dir, counts: map[string]int{}}
	if err := r.run(ctx); err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	return r.result, nil
}

// A runner executes one run.
type runner struct {
	o      Options
	began  time.Time
	held   bool // the writers wait
	s      *system
	f      *fleet
	n      *nemesis
	result *Result
}

func (r *runner) logf(format string, args ...any) {
	fmt.Fprintf(r.o.Progress, "%6.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *runner) run(ctx context.Context) (err error) {
	r.s, err = startSystem(ctx, r.o.Database, "soak-"+strings.ToLower(rand.Text()[:6]), itemCount, r.o.Progress)
	defer func() { err = errors.Join(err, r.s.close()) }()
	defer r.f.close()
	if err != nil {
		return err
	}
	r.result.Database, r.result.Broker = r.s.a.String(), r.s.broker.String()
	r.logf("%s, %s, seed %d", r.s.a, r.s.broker, r.o.Seed)
	r.n = &nemesis{s: r.s, f: r.f, o: r.o, counts: map[string]int{}}

	watched, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	if err := r.startServices(ctx); err != nil {
		return err
	}
	watching.Go(func() { r.watch(watched) })
	if err := r.disturb(ctx); err != nil {
		return err
	}
	if err := r.drain(ctx); err != nil {
		return err
	}
	return r.judge(ctx)
}

// startServices starts all processes, and lets them run without faults for some time.
func (r *runner) startServices(ctx context.Context) error {
	starting, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for _, role := range []string{relays, consumers} {
		if err := r.startRole(starting, role); err != nil {
			return err
		}
	}
	m, err := startMonitor(r.s)
	if err != nil {
		return err
	}
	if err := r.startRole(starting, writers); err != nil {
		return errors.Join(err, m.conn.Close())
	}
	pause(ctx, min(max(r.o.Duration/12, 2*time.Second), 10*time.Second))
	for waited := time.Duration(0); m.messages.Load() < leastRate && waited < slowStart; waited += checkEvery { // on a busy machine
		pause(ctx, checkEvery)
	}
	r.result.Calm, r.result.Repeated, err = m.stop(r.s)
	return err
}

func (r *runner) startRole(ctx context.Context, role string) error {
	for i := range services[role] {
		s := spec{
			Role: role, Name: fmt.Sprintf("%s-%d", role, i+1), Seed: r.o.Seed*100 + uint64(i), Database: *r.s.a,
			URL: r.s.forOthers.URL(), Exchange: r.s.exchange, Queues: r.s.queues, Items: itemCount, Hold: r.hold(), Lease: lease,
		}
		switch role {
		case relays:
			s.URL = r.s.forRelays.URL()
		case consumers:
			s.Database = *r.s.b
		}
		if err := r.f.add(s); err != nil {
			return err
		}
	}
	for _, m := range r.f.role(role) {
		if err := m.await(ctx, ready); err != nil {
			return fmt.Errorf("%w; see its log in %s", err, r.o.Dir)
		}
	}
	return nil
}

// disturb is the phase with faults. It ends with all services and servers running.
func (r *runner) disturb(ctx context.Context) error {
	r.logf("faults begin")
	began := time.Now()
	phase, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.n.run(phase) }()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		select {
		case err := <-done:
			r.result.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
			return errors.Join(err, context.Cause(ctx))
		case <-check.C:
		}
		if err := r.throttle(); err != nil {
			return errors.Join(err, r.stopFaults(cancel, done))
		}
		total, _ := r.n.counted()
		if lasted := time.Since(began); lasted >= r.o.Duration && (total >= r.o.Kills || lasted >= 2*r.o.Duration) {
			cancel()
		}
	}
}

func (r *runner) stopFaults(cancel func(), done chan error) error {
	cancel()
	return <-done
}

// hold returns the path of the file that makes the writers wait.
func (r *runner) hold() string { return filepath.Join(r.o.Dir, "hold") }

// throttle makes the writers wait while the other services lag far behind, so that the databases can become equal within
// the time for it.
func (r *runner) throttle() (err error) {
	lag := r.f.counted(committed) - r.f.counted(applied)
	switch {
	case lag > mostLag && !r.held:
		r.held, err = true, os.WriteFile(r.hold(), nil, 0o600)
	case lag < mostLag/2 && r.held:
		r.held, err = false, os.Remove(r.hold())
	}
	return err
}

// drain stops the writers, waits until the databases agree or Options.Drain has elapsed, and stops the other services.
func (r *runner) drain(ctx context.Context) error {
	if err := r.f.stopAll(writers); err != nil {
		r.result.reason(Failed, "%v", err)
	}
	r.logf("writers stopped")
	began := time.Now()
	var last string
	changed := began
	for time.Since(began) < r.o.Drain && ctx.Err() == nil {
		left, state, err := r.left(ctx)
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
		if state != last {
			last, changed = state, time.Now()
		}
		if time.Since(changed) > r.o.Drain/3 {
			break // nothing happens any more
		}
		pause(ctx, checkEvery)
	}
	r.result.Drained = time.Since(began).Round(time.Millisecond).Seconds()
	for _, role := range []string{relays, consumers} {
		if err := r.f.stopAll(role); err != nil {
			r.result.reason(Failed, "%v", err)
		}
	}
	return context.Cause(ctx)
}

// left returns zero if everything is applied, and a text that changes while something happens.
func (r *runner) left(ctx context.Context) (n int, state string, err error) {
	box, err := r.s.a.newOutbox()
	if err != nil {
		return 0, "", err
	}
	a, err := r.s.a.open(1)
	if err != nil {
		return 0, "", err
	}
	defer a.Close()
	b, err := r.s.b.open(1)
	if err != nil {
		return 0, "", err
	}
	defer b.Close()
	stats, err := box.Stats(ctx, a)
	if err != nil {
		return 0, "", err
	}
	var committed, applied int
	if err := a.QueryRowContext(ctx, "SELECT COUNT(*) FROM changes").Scan(&committed); err != nil {
		return 0, "", err
	}
	if err := b.QueryRowContext(ctx, "SELECT COUNT(*) FROM applied").Scan(&applied); err != nil {
		return 0, "", err
	}
	queued, err := r.s.waiting()
	if err != nil {
		return 0, "", err
	}
	state = fmt.Sprintf("%d in the outbox, %d set aside, %d in the queues, %d of %d applied", stats.Waiting, stats.SetAside, queued, applied, committed)
	return stats.Waiting + stats.SetAside + queued + max(committed-applied, 0), state, nil
}

// watch prints progress.
func (r *runner) watch(ctx context.Context) {
	for pause(ctx, progressEvery); ctx.Err() == nil; pause(ctx, progressEvery) {
		total, _ := r.n.counted()
		r.logf("%d committed, %d applied, %d duplicates removed, %d transactions repeated after a failure, %d faults",
			r.f.counted(committed), r.f.counted(applied), r.f.counted(removed), r.f.counted(failed), total)
	}
}

// judge fills the result.
func (r *runner) judge(ctx context.Context) error {
	x := r.result
	a, err := readTable(ctx, r.s.a, "SELECT item, version, name, kind FROM changes ORDER BY item, version")
	if err != nil {
		return err
	}
	b, err := readTable(ctx, r.s.b, "SELECT item, version, name, kind FROM applied ORDER BY number")
	if err != nil {
		return err
	}
	x.compare(a, b)
	x.judgeCalm()
	for _, loss := range r.f.losses {
		x.reason(Failed, "%s; see its log", loss)
	}
	_, state, err := r.left(ctx)
	if err != nil {
		return err
	}
	if x.Missing > 0 {
		x.reason(Failed, "at the end: %s", state)
	}
	x.RolledBack, x.Removed, x.Retried = r.f.counted(rolledBack), r.f.counted(removed), r.f.counted(failed)
	x.Faults, x.ByKind = r.n.counted()
	x.require("committed changes", x.Committed, int(leastRate*r.o.Duration.Seconds()))
	x.require("transactions rolled back on purpose", x.RolledBack, 1)
	if len(r.o.Faults) == 0 && r.o.Duration >= longEnough {
		x.require("duplicates that the inbox removed", x.Removed, 1)
	}
	x.require("messages before the first fault", x.Calm, leastRate)
	x.require("faults", x.Faults, r.o.Kills)
	services, servers := r.n.kinds()
	for _, k := range slices.Concat(services, servers) {
		x.require(k.kind, x.ByKind[k.kind], 1)
	}
	return nil
}

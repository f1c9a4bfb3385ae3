package consumer

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// A desk is where a Run's session and its workers meet: deliveries wait there for a worker, and
// results for their session. It outlives sessions, as the workers do.
type desk struct {
	ctx context.Context // Run's: after its end handlers begin only where the order is kept

	mu     sync.Mutex
	work   *sync.Cond // for the workers: there is a job, or the desk has closed
	ready  fifo[job]
	lanes  map[string]*fifo[job] // by key: one job of it is ready or in hand, and these wait for that
	idle   int                   // workers that wait
	waking bool                  // one of them was woken and has not come yet
	closed bool

	// Where the order is kept, what was received is finished after the end of ctx, if there is time.
	ordered  bool
	workers  int
	slowest  time.Duration // a handler's, of late; it fades with each quicker one
	deadline time.Time     // for the handlers, once the session is drained
	stopped  bool          // the rest is not begun: the time is not enough, or a handler has put its message back
}

// A job is a delivery on its way through a handler. It keeps the delivery tag apart from the
// delivery, which the handler may change.
type job struct {
	s   *session
	d   *Delivery
	tag uint64
	key string // of Config.Key; empty: in no order
}

type result struct {
	job
	verdict
}

// An inbox holds a session's results. It is guarded by the desk's mutex.
type inbox struct {
	results []result
	spare   []result      // emptied, to be filled again
	arrived chan struct{} // holds a token when results are no longer empty
	closed  bool
}

func newDesk(ctx context.Context) *desk {
	d := &desk{ctx: ctx, lanes: map[string]*fifo[job]{}}
	d.work = sync.NewCond(&d.mu)
	return d
}

// put takes in a delivery.
func (d *desk) put(j job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j.key != "" {
		if lane, busy := d.lanes[j.key]; busy {
			if lane == nil {
				lane = &fifo[job]{}
				d.lanes[j.key] = lane
			}
			lane.push(j)
			d.judge()
			return
		}
		d.lanes[j.key] = nil
	}
	d.ready.push(j)
	d.judge()
	d.wake()
}

// wake wakes a worker if there is work for one. Whoever takes a job wakes the next: where handlers
// are quick, few workers do all the work, and the others need not be woken for each message.
func (d *desk) wake() {
	if d.idle > 0 && !d.waking && d.ready.len() > 0 {
		d.waking = true
		d.work.Signal()
	}
}

// take waits for a job. It returns false when the desk has closed.
func (d *desk) take() (job, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.closed {
		if d.ready.len() > 0 && (d.ctx.Err() == nil || d.ordered && !d.stopped) {
			j := d.ready.pop()
			d.wake()
			return j, true
		}
		d.idle++
		d.work.Wait()
		d.idle--
		d.waking = false
	}
	return job{}, false
}

// done hands a handler's result to the session its delivery came from. It returns false if that
// takes none any more.
func (d *desk) done(r result) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ordered && r.how == postpone && d.ctx.Err() != nil {
		d.stopped = true // a message put back at the shutdown: the ones behind it stay behind it
	}
	if r.key != "" {
		if lane := d.lanes[r.key]; lane != nil && lane.len() > 0 {
			d.ready.push(lane.pop())
			d.wake()
		} else {
			delete(d.lanes, r.key)
		}
	}
	d.slowest = max(r.took, d.slowest-d.slowest/32)
	d.judge()
	in := &r.s.inbox
	if in.closed {
		return false
	}
	in.results = append(in.results, r)
	if len(in.results) == 1 {
		in.arrived <- struct{}{}
	}
	return true
}

// collect returns the results there are. They are valid until the next call.
func (d *desk) collect(in *inbox) []result {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(in.spare)
	in.results, in.spare = in.spare[:0], in.results
	select {
	case <-in.arrived:
	default:
	}
	return in.spare
}

// shut has the session take no more results, and returns those that it did not collect.
func (d *desk) shut(in *inbox) []result {
	d.mu.Lock()
	defer d.mu.Unlock()
	in.closed = true
	return in.results
}

// finish has the workers finish what was received by the deadline. If the time will not do, they begin nothing
// more, which stops tells.
func (d *desk) finish(deadline time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = deadline
	d.judge()
}

// judge stops the workers where handlers as slow as the slowest would not finish everything in time. It goes by
// the longest queue of a key and by the share of each worker, and adds one turn for those that run.
func (d *desk) judge() {
	if d.deadline.IsZero() || d.stopped {
		return
	}
	waiting, longest := d.ready.len(), 0
	for _, lane := range d.lanes {
		if lane != nil {
			waiting += lane.len()
			longest = max(longest, lane.len())
		}
	}
	if waiting == 0 {
		return
	}
	turns := max(longest, (waiting+d.workers-1)/d.workers) + 1
	d.stopped = time.Until(d.deadline)/time.Duration(turns) < d.slowest
}

// stops reports whether the workers begin nothing more of what was received.
func (d *desk) stops() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// withdraw takes back what no handler has begun, in the order of delivery.
func (d *desk) withdraw() []job {
	d.mu.Lock()
	defer d.mu.Unlock()
	var jobs []job
	for _, j := range d.ready.all() {
		jobs = append(jobs, j)
		if lane := d.lanes[j.key]; lane != nil {
			jobs = append(jobs, lane.all()...)
		}
		delete(d.lanes, j.key)
	}
	for key, lane := range d.lanes { // a handler has one of each
		if lane != nil {
			jobs = append(jobs, lane.all()...)
			d.lanes[key] = nil
		}
	}
	slices.SortFunc(jobs, func(a, b job) int { return cmp.Compare(a.tag, b.tag) })
	return jobs
}

// close has the workers end.
func (d *desk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.work.Broadcast()
}

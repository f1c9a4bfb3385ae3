package consumer

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A dispatcher passes a Run's deliveries from its sessions to its workers, and results back to their session. It outlives
// sessions, as the workers do.
type dispatcher struct {
	ctx context.Context // Run's: after its end handlers begin only where the order is kept

	mu      sync.Mutex
	work    *sync.Cond // for the workers: there is a job, or the dispatcher was closed
	ready   fifo[job]
	queues  map[string]*fifo[job] // by key: one job of the key is ready or handled, and these wait for it
	idle    int                   // workers that wait
	waking  bool                  // one of them was woken and has not come yet
	closed  bool
	handled int // results of handlers

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
	to  *results
	d   *Delivery
	tag uint64
	key string // of Config.Key; empty: in no order
}

type result struct {
	job
	verdict
}

// results are the results for a session. The dispatcher's mutex guards them.
type results struct {
	list    []result
	spare   []result      // emptied, to be filled again
	arrived chan struct{} // holds a token when list is no longer empty
	closed  bool
	lost    error        // how the session was lost; nil if it was not. Set before closed
	unsent  atomic.Int64 // results that came after the loss
}

func newResults() results { return results{arrived: make(chan struct{}, 1)} }

func newDispatcher(ctx context.Context) *dispatcher {
	d := &dispatcher{ctx: ctx, queues: map[string]*fifo[job]{}}
	d.work = sync.NewCond(&d.mu)
	return d
}

// put takes in a delivery.
func (d *dispatcher) put(j job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j.key != "" {
		if queue, busy := d.queues[j.key]; busy {
			if queue == nil {
				queue = &fifo[job]{}
				d.queues[j.key] = queue
			}
			queue.push(j)
			d.judge()
			return
		}
		d.queues[j.key] = nil
	}
	d.ready.push(j)
	d.judge()
	d.wake()
}

// wake wakes a worker if there is work for one. Whoever takes a job wakes the next: where handlers
// are quick, few workers do all the work, and the others need not be woken for each message.
func (d *dispatcher) wake() {
	if d.idle > 0 && !d.waking && d.ready.len() > 0 {
		d.waking = true
		d.work.Signal()
	}
}

// take waits for a job. It returns false when the dispatcher was closed.
func (d *dispatcher) take() (job, bool) {
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
func (d *dispatcher) done(r result) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ordered && r.how == postpone && d.ctx.Err() != nil {
		d.stopped = true // a message put back at the shutdown: the ones behind it stay behind it
	}
	if r.key != "" {
		if queue := d.queues[r.key]; queue != nil && queue.len() > 0 {
			d.ready.push(queue.pop())
			d.wake()
		} else {
			delete(d.queues, r.key)
		}
	}
	d.slowest = max(r.took, d.slowest-d.slowest/32)
	d.judge()
	d.handled++
	in := r.to
	if in.closed {
		return false
	}
	in.list = append(in.list, r)
	if len(in.list) == 1 {
		in.arrived <- struct{}{}
	}
	return true
}

// collect returns the results there are. They are valid until the next call.
func (d *dispatcher) collect(in *results) []result {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(in.spare)
	in.list, in.spare = in.spare[:0], in.list
	select {
	case <-in.arrived:
	default:
	}
	return in.spare
}

// shut has the session take no more results, and returns those that it did not collect. lost is how the session was lost, if
// it was.
func (d *dispatcher) shut(in *results, lost error) []result {
	d.mu.Lock()
	defer d.mu.Unlock()
	in.closed, in.lost = true, lost
	return in.list
}

// finish has the workers finish what was received by the deadline. If the time will not do, they begin nothing
// more, which stops tells.
func (d *dispatcher) finish(deadline time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = deadline
	d.judge()
}

// judge stops the workers where handlers as slow as the slowest would not finish everything in time. It goes by
// the longest queue of a key and by the share of each worker, and adds one turn for those that run.
func (d *dispatcher) judge() {
	if d.deadline.IsZero() || d.stopped {
		return
	}
	waiting, longest := d.ready.len(), 0
	for _, queue := range d.queues {
		if queue != nil {
			waiting += queue.len()
			longest = max(longest, queue.len())
		}
	}
	if waiting == 0 {
		return
	}
	turns := max(longest, (waiting+d.workers-1)/d.workers) + 1
	d.stopped = time.Until(d.deadline)/time.Duration(turns) < d.slowest
}

// stops reports whether the workers begin nothing more of what was received.
func (d *dispatcher) stops() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// withdraw takes back what no handler has begun, in the order of delivery.
func (d *dispatcher) withdraw() []job {
	d.mu.Lock()
	defer d.mu.Unlock()
	var jobs []job
	for _, j := range d.ready.all() {
		jobs = append(jobs, j)
		if queue := d.queues[j.key]; queue != nil {
			jobs = append(jobs, queue.all()...)
		}
		delete(d.queues, j.key)
	}
	for key, queue := range d.queues { // a handler has one of each
		if queue != nil {
			jobs = append(jobs, queue.all()...)
			d.queues[key] = nil
		}
	}
	slices.SortFunc(jobs, func(a, b job) int { return cmp.Compare(a.tag, b.tag) })
	return jobs
}

// close has the workers end.
func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.work.Broadcast()
}

// handledJobs returns how many handlers have returned.
func (d *dispatcher) handledJobs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handled
}

// logUnsent logs a result that cannot be sent, because its session was closed.
func (r result) logUnsent(ctx context.Context, log *slog.Logger) {
	cause := r.to.lost
	if cause == nil {
		cause = errLate
	} else {
		r.to.unsent.Add(1)
	}
	log.InfoContext(ctx, "consumer: result not sent; the message will be redelivered", "message_id", r.d.MessageId, "result", r.err, "error", cause)
}

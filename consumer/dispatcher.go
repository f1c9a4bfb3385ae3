package consumer

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A dispatcher passes a Run's deliveries from its sessions to its workers, and the results back to the sessions. Like
// the workers, it outlives sessions.
type dispatcher struct {
	ctx context.Context // Run's ctx; after its end, handlers start only in an ordered shutdown

	mu      sync.Mutex
	work    *sync.Cond // signalled when a job is ready or the dispatcher was closed
	ready   fifo[job]
	queues  map[string]*fifo[job] // by key: jobs that wait while another job of the key is ready or running
	idle    int                   // waiting workers
	waking  bool                  // a worker was signalled and has not resumed yet
	closed  bool
	handled int // handlers that have returned

	// In an ordered shutdown, received deliveries are handled after the end of ctx, if the time suffices.
	ordered  bool
	workers  int
	slowest  time.Duration // duration of the slowest recent handler; decays with each faster one
	deadline time.Time     // for the handlers; set when the drain starts
	stopped  bool          // no further handler starts: the time is too short, or a handler requeued its message
}

// A job is a delivery for a handler. It has a copy of the delivery tag, because the handler may change the delivery.
type job struct {
	to  *results
	d   *Delivery
	tag uint64
	key string // from Config.Key; empty if unordered
}

type result struct {
	job
	outcome
}

// results are the results for a session, guarded by the dispatcher's mutex.
type results struct {
	list    []result
	spare   []result      // the slice that collect returned last, for reuse
	arrived chan struct{} // receives a token when list becomes non-empty
	closed  bool
	lost    error        // how the session was lost, or nil; set before closed
	unsent  atomic.Int64 // results received after the loss
}

func newResults() results { return results{arrived: make(chan struct{}, 1)} }

func newDispatcher(ctx context.Context) *dispatcher {
	d := &dispatcher{ctx: ctx, queues: map[string]*fifo[job]{}}
	d.work = sync.NewCond(&d.mu)
	return d
}

// put adds a delivery.
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
			d.checkDeadline()
			return
		}
		d.queues[j.key] = nil
	}
	d.ready.push(j)
	d.checkDeadline()
	d.wake()
}

// wake signals a worker if a job is ready. Each worker that takes a job signals the next one. So a few workers do all
// the work if handlers are fast, and the others are not woken for each message.
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

// done passes a handler's result to the session of its delivery. It returns false if the session was closed.
func (d *dispatcher) done(r result) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ordered && r.how == postpone && d.ctx.Err() != nil {
		d.stopped = true // the message was requeued at shutdown; later ones must stay behind it
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
	d.checkDeadline()
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

// collect returns the available results. They are valid until the next call.
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

// shut closes in and returns the results that the session did not collect. lost is how the session was lost, or nil.
func (d *dispatcher) shut(in *results, lost error) []result {
	d.mu.Lock()
	defer d.mu.Unlock()
	in.closed, in.lost = true, lost
	return in.list
}

// finish lets the workers handle the received deliveries until the deadline. If the time is too short, they start no
// further handler and stops returns true.
func (d *dispatcher) finish(deadline time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = deadline
	d.checkDeadline()
}

// checkDeadline stops the workers if handlers as slow as the slowest recent one would not finish everything in time. It
// counts the longest queue of a key or the jobs per worker, whichever is more, and one turn for the running handlers.
func (d *dispatcher) checkDeadline() {
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

// stops reports whether the workers start no further handler.
func (d *dispatcher) stops() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// withdraw removes and returns the jobs whose handlers have not started, in the order of delivery.
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
	for key, queue := range d.queues { // a job of each of these keys is running
		if queue != nil {
			jobs = append(jobs, queue.all()...)
			d.queues[key] = nil
		}
	}
	slices.SortFunc(jobs, func(a, b job) int { return cmp.Compare(a.tag, b.tag) })
	return jobs
}

// close makes the workers exit.
func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.work.Broadcast()
}

// handledJobs returns the number of handlers that have returned.
func (d *dispatcher) handledJobs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handled
}

// logUnsent logs a result that was not sent because its session was closed.
func (r result) logUnsent(ctx context.Context, log *slog.Logger) {
	cause := r.to.lost
	if cause == nil {
		cause = errDrainTimeout
	} else {
		r.to.unsent.Add(1)
	}
	if r.err != nil {
		cause = fmt.Errorf("%w; the handler's result: %w", cause, r.err)
	}
	log.InfoContext(ctx, "consumer: result not sent; the message will be redelivered", "message_id", r.d.MessageId, "error", cause)
}

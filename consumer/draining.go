package consumer

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// callTimeout is the time limit for closing a channel and for settling a delivery of Get, and the minimum limit for
// calls after the end of Run's ctx. After it the connection is closed for all its users, because that is the only
// remaining way to requeue the deliveries.
const callTimeout = 5 * time.Second

// overtime is the time that handlers get to return after their ctx was cancelled at the drain timeout.
const overtime = 500 * time.Millisecond

// cutAfter is the time that the broker gets to answer after the drain timeout. It includes the overtime and the
// settlements sent then.
const cutAfter = 2 * time.Second

var (
	errDrainTimeout    = errors.New("consumer: the drain timeout elapsed")
	errShutdownTimeout = errors.New("RabbitMQ did not answer in time after Run's ctx ended, the connection was closed")
)

type shutdownKey struct{}

// A shutdown holds the deadlines of a Run's shutdown, which starts when Run's ctx ends.
type shutdown struct {
	begun    <-chan struct{} // closed when the shutdown starts
	drain    time.Duration
	last     atomic.Pointer[time.Time] // when the drain timeout elapses; nil before the shutdown
	handlers context.Context           // ctx of the handlers; cancelled when the drain timeout elapses
	late     chan struct{}             // closed when the drain timeout and overtime have elapsed
	calls    context.Context           // ctx of calls to the broker; cancelled some time after Run's ctx
}

// newShutdown returns the shutdown that starts when ctx ends. interrupted is called when the drain timeout elapses.
// stop releases the timers.
func newShutdown(ctx context.Context, drain time.Duration, interrupted func()) (s *shutdown, stop func()) {
	s = &shutdown{begun: ctx.Done(), drain: drain, late: make(chan struct{})}
	handlers, interrupt := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), shutdownKey{}, s))
	calls, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	s.handlers, s.calls = handlers, calls
	afterDrain := after(ctx, drain, func() {
		interrupted()
		interrupt()
	})
	afterOvertime := after(ctx, drain+overtime, func() { close(s.late) })
	afterCut := after(ctx, max(drain+cutAfter, callTimeout), func() { cut(errShutdownTimeout) })
	notBegun := context.AfterFunc(ctx, s.begin)
	return s, func() {
		notBegun()
		afterDrain()
		afterOvertime()
		afterCut()
		interrupt()
		cut(nil)
	}
}

func (s *shutdown) begin() {
	last := time.Now().Add(s.drain)
	s.last.Store(&last)
}

// deadline returns when the handlers' ctx ends if the shutdown has started, or would end if it started now.
func (s *shutdown) deadline() time.Time {
	if last := s.last.Load(); last != nil {
		return *last
	}
	return time.Now().Add(s.drain)
}

// Draining returns a channel that is closed when the Run that owns a handler's ctx starts to shut down. Use it to
// stop idle waits: ctx itself is cancelled only after Config.DrainTimeout. The channel is nil for any other ctx.
func Draining(ctx context.Context) <-chan struct{} {
	if s, ok := ctx.Value(shutdownKey{}).(*shutdown); ok {
		return s.begun
	}
	return nil
}

// after calls f when d has elapsed since ctx ended, unless cancel is called first.
func after(ctx context.Context, d time.Duration, f func()) (cancel func()) {
	pending, cancel := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() {
		t := time.AfterFunc(d, f)
		context.AfterFunc(pending, func() { t.Stop() })
	})
	return cancel
}

package consumer

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// callTimeout bounds a call to the broker after which nobody waits: after Run's ctx has ended,
// and for closing a channel. Beyond it the connection is closed, with all that use it: the
// only way left to return the deliveries.
const callTimeout = 5 * time.Second

// overtime is how long handlers get to return once their ctx was cancelled at the end of the
// drain time.
const overtime = 500 * time.Millisecond

// cutAfter is how long after the drain time the broker may take to answer: enough to take what was
// settled in the overtime.
const cutAfter = 2 * time.Second

var (
	errLate  = errors.New("consumer: the drain time is over")
	errNoEnd = errors.New("RabbitMQ did not answer in time after the end of Run's ctx, the connection was cut")
)

type shutdownKey struct{}

// A shutdown is the course of the end of a Run, from the end of its ctx on.
type shutdown struct {
	begun    <-chan struct{} // closed when it begins
	drain    time.Duration
	last     atomic.Pointer[time.Time] // the end of the drain time; nil before the shutdown
	handlers context.Context           // the handlers' ctx: ends when the drain time is over
	late     chan struct{}             // closed overtime after the end of the drain time
	calls    context.Context           // bounds calls to the broker: ends some time after Run's ctx
}

// newShutdown returns the shutdown that begins with the end of ctx. interrupted is called when the drain time is over. stop
// releases the timers.
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
	afterCut := after(ctx, max(drain+cutAfter, callTimeout), func() { cut(errNoEnd) })
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

// deadline is when the handlers' ctx ends, at the latest from now.
func (s *shutdown) deadline() time.Time {
	if last := s.last.Load(); last != nil {
		return *last
	}
	return time.Now().Add(s.drain)
}

// Draining returns a channel that is closed when the Run that owns a handler's ctx starts to shut down. Use it to
// stop idle waits: ctx itself is cancelled only after Config.DrainTimeout. For any other ctx the channel is nil.
func Draining(ctx context.Context) <-chan struct{} {
	if s, ok := ctx.Value(shutdownKey{}).(*shutdown); ok {
		return s.begun
	}
	return nil
}

// after calls f when d has passed since ctx ended, unless the function it returns is called
// before.
func after(ctx context.Context, d time.Duration, f func()) (cancel func()) {
	pending, cancel := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() {
		t := time.AfterFunc(d, f)
		context.AfterFunc(pending, func() { t.Stop() })
	})
	return cancel
}

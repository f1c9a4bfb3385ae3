package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// overtime is how long handlers get to return once their ctx was cancelled at the end of the
// drain time.
const overtime = 500 * time.Millisecond

// cutAfter is how long after the drain time the broker may take to answer: enough to take what was
// settled in the overtime.
const cutAfter = 2 * time.Second

// afterCancel is the least pause after a basic.cancel. RabbitMQ closes the whole connection (541) when a
// quorum queue is consumed from that is just being deleted.
const afterCancel = 200 * time.Millisecond

// provenAfter is how long a session must last, if it settles nothing, for the next one to
// start with a fresh backoff: one that is cancelled as soon as it stands must not loop hot.
const provenAfter = time.Second

var (
	errGoexit = errors.New("consumer: the handler called runtime.Goexit")
	errLate   = errors.New("consumer: the drain time is over")
	errNoEnd  = errors.New("RabbitMQ did not answer in time after the end of Run's ctx, the connection was cut")
)

// A run is one call of Consumer.Run. Its workers live as long as it does, longer than a
// session: a slow handler of a lost session neither delays the next one nor adds to the
// handlers that run at once.
type run struct {
	*Consumer

	ending   *ending
	handlers context.Context // the handlers' ctx: ends when the drain time is over
	calls    context.Context // bounds calls to the broker: ends some time after Run's ctx
	late     chan struct{}   // closed overtime after the end of the drain time

	desk       *desk         // between the session and the workers
	exited     chan struct{} // one for each worker that ended
	busy       atomic.Int64  // handlers that run
	unfinished atomic.Int64  // handlers that ran when the drain time was over

	warned     bool   // of a Reject without a dead-letter exchange
	mayNotAsk  bool   // a passive declare is refused
	longHolds  burst  // longer than the consumer timeout
	fullHolds  burst  // held messages fill the prefetch
	circles    burst  // messages that go back as soon as they are delivered
	complained string // the last failure logged as a warning, while it lasts

	missing  missing  // the report to a Restorer
	last     *session // the last subscription, also after its loss
	poison   suspicion
	position position // in a stream

	settled   int // what handlers finished in the drain
	givenBack int // what no handler had begun then
}

func (c *Consumer) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ending := &ending{begun: ctx.Done(), drain: c.cfg.DrainTimeout}
	defer context.AfterFunc(ctx, ending.begin)()
	handlers, interrupt := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), endingKey{}, ending))
	defer interrupt()
	calls, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	r := &run{
		Consumer: c,
		ending:   ending,
		handlers: handlers,
		calls:    calls,
		late:     make(chan struct{}),
		desk:     newDesk(ctx),
		exited:   make(chan struct{}, c.cfg.Workers),
	}
	r.desk.ordered, r.desk.workers = c.cfg.ordered(), c.cfg.Workers
	defer r.desk.close()
	defer r.queueFound()
	defer after(ctx, c.cfg.DrainTimeout, func() {
		r.unfinished.Store(r.busy.Load())
		interrupt()
	})()
	defer after(ctx, c.cfg.DrainTimeout+overtime, func() { close(r.late) })()
	defer after(ctx, max(c.cfg.DrainTimeout+cutAfter, callTimeout), func() { cut(errNoEnd) })()

	for range c.cfg.Workers {
		go r.work()
	}
	err := r.serve(ctx)
	stop() // starts the drain time also if ctx has not ended
	unfinished := r.wait()
	switch {
	case err == nil:
		return unfinished
	case unfinished == nil:
		return err
	}
	return errors.Join(err, unfinished)
}

// serve runs one session after another until ctx ends or it cannot go on.
func (r *run) serve(ctx context.Context) error {
	delays := r.cfg.Backoff()
	delays.Reset()
	var failure error // the last one
	for ctx.Err() == nil {
		proven, err := r.once(ctx)
		if ctx.Err() != nil {
			if !onlyEnd(ctx, err) {
				failure = err
			}
			continue
		}
		failure = err
		if proven {
			delays.Reset()
		}
		var failed *SubscribeError
		var lost *LostError
		var poison *PoisonError
		switch {
		case errors.As(err, &poison):
			if r.poison.tell() {
				r.log.Error("consumer: subscribing again, with growing pauses", "err", err)
			}
		case errors.As(err, &lost):
			r.complain("consumer: subscribing again", err)
		case errors.As(err, &failed) && !amqperr.IsPermanent(err):
			r.complain("consumer: cannot subscribe, trying again", err)
		default:
			return err
		}
		r.status.set(subscribing, err)
		r.reportMissing(err)
		delay := delays.NextBackOff()
		if delay == backoff.Stop {
			return err
		}
		if lost != nil && lost.Err == nil {
			delay = max(delay, afterCancel)
		}
		if poison != nil {
			delay = max(delay, r.poison.pause())
		}
		sleep(ctx, delay, r.missing.tried)
	}
	if r.last == nil && failure != nil {
		return fmt.Errorf("%w: %w", ErrNotSubscribed, unprefixed(failure))
	}
	return nil
}

// onlyEnd reports whether the end of ctx is the only cause of err.
func onlyEnd(ctx context.Context, err error) bool {
	switch u := err.(type) { //nolint:errorlint // the tree is walked here
	case nil:
		return true
	case interface{ Unwrap() error }:
		return err == context.Cause(ctx) || onlyEnd(ctx, u.Unwrap()) //nolint:errorlint // likewise
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(u.Unwrap(), func(err error) bool { return !onlyEnd(ctx, err) })
	}
	return err == ctx.Err() || err == context.Cause(ctx) //nolint:errorlint // likewise
}

// once runs one session, and those that take over from it, from the current connection to its end. The error is a
// *SubscribeError, a *LostError, a *PoisonError, or the connection's own if that ended for good.
func (r *run) once(ctx context.Context) (proven bool, err error) {
	s, err := r.subscribe(ctx)
	if err != nil {
		r.poison.others(time.Now(), err)
		return false, err
	}
	r.queueFound()
	switch {
	case r.poison.err != nil:
		r.status.set(subscribed, r.poison.err)
		s.log.Debug("consumer: subscribed, one message at a time", "tag", s.tag)
	case r.complained == "":
		r.status.set(subscribed, nil)
		s.log.Debug("consumer: subscribed", "tag", s.tag)
	default:
		s.subscribedAgain()
	}
	r.last = s
	err = s.consume(ctx)
	for s.next != nil { // whatever the error: the next one gets what this one left
		s = s.next
		r.last = s
		err = s.consume(ctx)
	}
	proven = s.progress || time.Since(s.began) >= provenAfter
	var lost *LostError
	if errors.As(err, &lost) {
		r.poison.lost(s, lost)
		if wire.HardClose(lost.Err) && r.poison.err != nil {
			err = r.poison.err
		}
	}
	return proven, err
}

// complain logs a failure, at a lower level while the same one repeats.
func (r *run) complain(msg string, err error) {
	if text := err.Error(); text != r.complained {
		r.complained = text
		r.log.Warn(msg, "err", err)
		return
	}
	r.log.Debug(msg, "err", err)
}

// work runs handlers until there are no more jobs.
func (r *run) work() {
	var now job
	ended := false
	defer func() {
		if ended {
			r.exited <- struct{}{}
			return
		}
		// runtime.Goexit (t.FailNow in a test's handler) ends this goroutine, not the
		// worker.
		go r.work()
		r.done(now, verdict{how: fail, err: errGoexit})
	}()
	for {
		var ok bool
		if now, ok = r.desk.take(); !ok {
			break
		}
		r.busy.Add(1)
		if !r.desk.ordered {
			r.done(now, handle(r.handlers, r.handler, now.d))
			continue
		}
		began := time.Now()
		v := handle(r.handlers, r.handler, now.d)
		v.took = time.Since(began)
		r.done(now, v)
	}
	ended = true
}

// done hands a handler's result to the session its delivery came from.
func (r *run) done(j job, v verdict) {
	r.busy.Add(-1)
	if res := (result{j, v}); !r.desk.done(res) {
		r.tooLate(res)
	}
}

// tooLate tells of a result that cannot be sent.
func (r *run) tooLate(res result) {
	why := res.s.why
	if why == nil {
		why = errLate
	} else {
		res.s.stale.Add(1)
	}
	r.log.Info("consumer: result not sent, the message will be delivered again",
		"message_id", res.d.MessageId, "result", res.err, "err", why)
}

// sort finds the key of a delivery. An error is a panic of Config.Key, as if of the handler.
func (r *run) sort(j *job) (err error) {
	if r.cfg.Key == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	j.key = r.cfg.Key(j.d)
	return nil
}

// wait ends the workers and waits for them until the overtime is over. Its error is a *DrainError.
func (r *run) wait() error {
	r.desk.close()
	late, running := r.late, 0
	for left := r.cfg.Workers; left > 0 && running == 0; {
		select {
		case <-r.exited:
			left--
		case <-late:
			late, running = nil, int(r.busy.Load())
		}
	}
	e := &DrainError{Unfinished: int(r.unfinished.Load()), Running: running, Timeout: r.cfg.DrainTimeout}
	if s := r.last; s != nil {
		if e.Unsettled = s.left + int(s.stale.Load()); e.Unsettled > 0 {
			e.Err = s.why
		}
	}
	level := slog.LevelDebug
	if e.Unfinished > 0 || e.Unsettled > 0 {
		level = slog.LevelWarn
	}
	r.log.Log(context.Background(), level, "consumer: ended", "settled", r.settled, "given_back", r.givenBack, "unsettled", e.Unsettled, "running", running)
	if e.Unfinished == 0 && e.Unsettled == 0 {
		return nil
	}
	return e
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

// sleep returns after d, or earlier if ctx ends or wake receives a value.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

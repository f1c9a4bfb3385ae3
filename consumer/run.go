package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// afterCancel is the minimum pause after a basic.cancel. RabbitMQ closes the whole connection (541) if a client
// consumes from a quorum queue that is being deleted.
const afterCancel = 200 * time.Millisecond

// A run is one call of Consumer.Run.
type run struct {
	subscriber
	runState
	status *status

	workers workers
	missing missingQueue
	warned  map[string]string // kinds of the last failures by their log message, until a subscription has lasted a minute
	told    bool              // the last logged change was a subscription
	last    *session          // the last session, also after its loss
	totals  totals
}

// run consumes until ctx ends or an error is final, and then drains.
func (r *run) run(ctx context.Context, handler Handler) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r.connector.state = &r.runState
	shutdown, release := newShutdown(ctx, r.cfg.DrainTimeout, r.workers.interrupted)
	defer release()
	r.shutdown = shutdown
	r.dispatcher = newDispatcher(ctx)
	r.dispatcher.ordered, r.dispatcher.workers = r.cfg.ordered(), r.cfg.Workers
	defer r.dispatcher.close()
	defer r.missing.clear()

	r.workers.start(r.cfg.Workers, handler, &r.runState)
	err := r.serve(ctx)
	stop() // starts the drain time also if ctx has not ended
	unfinished := r.drained(r.workers.wait(shutdown.late))
	switch {
	case err == nil:
		return unfinished
	case unfinished == nil:
		return err
	}
	return errors.Join(err, unfinished)
}

// serve runs sessions until ctx ends or an error is final.
func (r *run) serve(ctx context.Context) error {
	delays := r.cfg.Backoff()
	delays.Reset()
	var failure error // the last failure
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
			r.told = false
			if r.poison.shouldLog() {
				r.log.ErrorContext(ctx, "consumer: subscribing again, with growing pauses", "error", err)
			}
		case errors.As(err, &lost):
			r.warn(ctx, "consumer: subscription lost; subscribing again", r.last.role(), err)
		case errors.As(err, &failed) && !amqperr.IsPermanent(err):
			r.warn(ctx, "consumer: cannot subscribe; trying again", r.role, err)
		default:
			return err
		}
		r.status.set(subscribing, err)
		r.missing.report(r.conn, err)
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
		return fmt.Errorf("%w: %w", ErrNotSubscribed, validate.Unprefixed(failure))
	}
	return nil
}

// onlyEnd reports whether the end of ctx is the only cause of err.
func onlyEnd(ctx context.Context, err error) bool {
	switch u := err.(type) { //nolint:errorlint // the tree is walked here
	case nil:
		return true
	case interface{ Unwrap() error }:
		return err == context.Cause(ctx) || onlyEnd(ctx, u.Unwrap()) //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(u.Unwrap(), func(err error) bool { return !onlyEnd(ctx, err) })
	}
	return err == ctx.Err() || err == context.Cause(ctx) //nolint:errorlint // the tree is walked here
}

// once runs a session and its successors on the current connection. The error is a *SubscribeError, a *LostError, a
// *PoisonError, or the error of a permanently closed connection.
func (r *run) once(ctx context.Context) (proven bool, err error) {
	s, err := r.subscribe(ctx)
	if err != nil {
		r.poison.others(time.Now(), err)
		return false, err
	}
	r.missing.clear()
	r.subscribed(ctx, s)
	began := s.began
	for next := s; next != nil; { // continues after an error, too: a successor may have been subscribed
		s = next
		r.last = s
		next, err = r.consume(ctx, s)
		r.totals.add(s.totals)
	}
	proven = s.progress || time.Since(s.began) >= provenAfter
	if time.Since(began) >= logs.Interval {
		clear(r.warned)
	}
	var lost *LostError
	if errors.As(err, &lost) {
		r.poison.lost(s, lost)
		if wire.HardClose(lost.Err) && r.poison.err != nil {
			err = r.poison.err
		}
	}
	return proven, err
}

// consume runs a session until it ends. next is its successor, if there is one.
func (r *run) consume(ctx context.Context, s *session) (next *session, err error) {
	defer func() { s.end(err) }()
	// wire cannot set a deadline for a settlement, which may block on a socket that the broker does not read.
	defer context.AfterFunc(r.shutdown.calls, func() { wire.Kill(s.ac) })()
	for {
		passed, err := s.consume(ctx)
		if !passed {
			return nil, err
		}
		if r.poison.err != nil {
			r.poison.err = nil
			r.subscribed(ctx, s)
		}
		if next, moved, err := r.replace(ctx, s); moved {
			return next, err
		}
	}
}

// subscribed sets the status after a subscription and logs it. It logs at debug level while the same message closes
// every connection, and if the failures since the last line were not logged either.
func (r *run) subscribed(ctx context.Context, s *session) {
	level := slog.LevelInfo
	if r.poison.err != nil {
		level = slog.LevelDebug
		r.status.set(subscribed, r.poison.err)
	} else {
		if r.told {
			level = slog.LevelDebug
		}
		r.told = true
		r.status.set(subscribed, nil)
	}
	s.log.Log(ctx, level, "consumer: subscribed", "role", s.role(), "prefetch", s.ledger.window)
}

// warn logs a failure at once if its kind differs from the last one with this message, otherwise once a minute.
func (r *run) warn(ctx context.Context, msg, role string, err error) {
	if kind := failureKind(err); kind != r.warned[msg] {
		r.warned[msg] = kind
		r.warnings.Reset(msg)
	}
	if r.warnings.Warn(ctx, r.log, msg, msg, slog.String("role", role), slog.Any("error", err)) {
		r.told = false
	}
}

// drained logs the end of the Run with its totals, and returns a *DrainError if the drain was incomplete.
func (r *run) drained(running int) error {
	e := &DrainError{Unfinished: int(r.workers.unfinished.Load()), Running: running, drain: r.cfg.DrainTimeout}
	if r.last != nil {
		n, cause := r.last.unsettled()
		if e.Unsettled = n; n > 0 {
			e.Err = cause
		}
	}
	level := slog.LevelInfo
	if e.Unfinished > 0 || e.Unsettled > 0 {
		level = slog.LevelWarn
	}
	t := r.totals
	r.log.Log(r.ctx(), level, "consumer: ended", "handled", r.dispatcher.handledJobs(), "settled", t.settled,
		"acknowledged", t.acknowledged, "rejected", t.rejected, "requeued", t.requeued, "failed", t.failed,
		"redelivered", t.redelivered, "returned", t.returned, "unsettled", e.Unsettled, "running", running)
	if level == slog.LevelInfo {
		return nil
	}
	return e
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

package consumer

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

// connFunc is a Connection that never provides a session.
type connFunc func(context.Context) (*amqp.Connection, error)

func (f connFunc) ConsumeConnection(ctx context.Context) (*amqp.Connection, error) { return f(ctx) }

func newConsumer(t *testing.T, conn Connection, cfg Config) *Consumer {
	t.Helper()
	if cfg.Queue == "" {
		cfg.Queue = "orders"
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	c, err := New(conn, cfg, nop)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRunReturnsNilWhenCtxEndsBeforeAConnectionIsUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan struct{})
	c := newConsumer(t, connFunc(func(ctx context.Context) (*amqp.Connection, error) {
		close(waiting)
		<-ctx.Done()
		return nil, ctx.Err()
	}), Config{})
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	<-waiting
	if err := c.Run(ctx); !errors.Is(err, ErrRunning) {
		t.Errorf("a second Run = %v, want ErrRunning", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if err := c.Ready(t.Context()); !errors.Is(err, ErrNotSubscribed) {
		t.Errorf("Ready after Run = %v, want ErrNotSubscribed", err)
	}
}

func TestRunReturnsTheErrorOfAClosedConnection(t *testing.T) {
	closed := errors.New("connection closed")
	c := newConsumer(t, connFunc(func(context.Context) (*amqp.Connection, error) { return nil, closed }), Config{})
	if err := c.Run(t.Context()); !errors.Is(err, closed) {
		t.Errorf("Run = %v, want %v", err, closed)
	}
	if err := c.Ready(t.Context()); !errors.Is(err, ErrNotSubscribed) || !errors.Is(err, closed) {
		t.Errorf("Ready = %v, want ErrNotSubscribed and the cause", err)
	}
}

func TestReadyReportsTheLastFailureWhenItsCtxEnds(t *testing.T) {
	noDeclare := errors.New("no such exchange")
	failed := make(chan struct{}, 100)
	c := newConsumer(t, connFunc(func(context.Context) (*amqp.Connection, error) { return nil, nil }), Config{
		Declare: func(context.Context, *amqp.Connection) (string, error) { failed <- struct{}{}; return "", noDeclare },
		Backoff: func() backoff.BackOff { return &backoff.ConstantBackOff{Interval: time.Millisecond} },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	<-failed
	<-failed // the first failure is recorded
	short, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Ready(short); !errors.Is(err, context.Canceled) || !errors.Is(err, noDeclare) {
		t.Errorf("Ready = %v, want the end of ctx and %v", err, noDeclare)
	}
	var sub *SubscribeError
	if err := c.Err(); !errors.As(err, &sub) || sub.Queue != "orders" {
		t.Errorf("Err = %v, want a *SubscribeError for orders", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, ErrNotSubscribed) || !errors.Is(err, noDeclare) {
		t.Errorf("Run = %v, want ErrNotSubscribed and %v", err, noDeclare)
	}
}

func TestErrIsNilOnlyWhileSubscribed(t *testing.T) {
	refused := &SubscribeError{Queue: "orders", Err: errors.New("no")}
	s := newStatus()
	for _, step := range []struct {
		name   string
		change func()
		want   error
	}{
		{"before the first Run", func() {}, ErrNotSubscribed},
		{"Run has started", func() { s.start() }, ErrNotSubscribed},
		{"an attempt failed", func() { s.set(subscribing, refused) }, refused},
		{"subscribed", func() { s.set(subscribed, nil) }, nil},
		{"Run returned nil", func() { s.set(returned, nil) }, ErrNotSubscribed},
		{"the next Run has started", func() { s.start() }, ErrNotSubscribed},
		{"Run returned an error", func() { s.set(returned, refused) }, ErrNotSubscribed},
		{"Run returned an error, which is wrapped", func() {}, refused},
	} {
		step.change()
		if err := s.current(); !errors.Is(err, step.want) {
			t.Errorf("%s: Err = %v, want %v", step.name, err, step.want)
		}
	}
	if text := s.current().Error(); strings.Count(text, "consumer: ") != 1 {
		t.Errorf("%q names the package more than once", text)
	}
}

func TestReadyOfASecondRunDoesNotReportTheFirst(t *testing.T) {
	s := newStatus()
	s.start()
	s.set(subscribed, nil)
	s.set(returned, nil)
	done := make(chan error, 1)
	go func() { done <- s.ready(t.Context()) }() // before the second Run has started
	s.start()
	s.set(subscribed, nil)
	if err := <-done; err != nil {
		t.Errorf("Ready = %v, want nil", err)
	}
	s.set(returned, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.ready(ctx); !errors.Is(err, ErrNotSubscribed) || !errors.Is(err, context.Canceled) {
		t.Errorf("Ready after the second Run = %v, want ErrNotSubscribed and the end of ctx", err)
	}
}

func TestRunReturnsIfRetryingCannotHelp(t *testing.T) {
	conn := connFunc(func(context.Context) (*amqp.Connection, error) { return nil, nil })
	declare := func(err error) func(context.Context, *amqp.Connection) (string, error) {
		return func(context.Context, *amqp.Connection) (string, error) { return "", err }
	}
	for name, cfg := range map[string]Config{
		"the backoff gave up": {Declare: declare(errors.New("down")), Backoff: func() backoff.BackOff { return &backoff.StopBackOff{} }},
		"a permanent error":   {Declare: declare(&amqperr.FieldError{Field: "Queues[0].Name"})},
	} {
		var sub *SubscribeError
		if err := newConsumer(t, conn, cfg).Run(t.Context()); !errors.As(err, &sub) {
			t.Errorf("%s: Run = %v, want a *SubscribeError", name, err)
		}
	}
	c, err := New(conn, Config{Declare: declare(nil), Logger: slog.New(slog.DiscardHandler)}, nop)
	if err != nil {
		t.Fatal(err)
	}
	var f *amqperr.FieldError
	if err := c.Run(t.Context()); !errors.As(err, &f) || f.Field != "Declare" {
		t.Errorf("Run without any queue name = %v, want a *amqperr.FieldError for Declare", err)
	}
}

func TestFailuresToSubscribeBackOff(t *testing.T) {
	// Each attempt fails at once, so that only the delays separate them.
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		c := newConsumer(t, connFunc(func(context.Context) (*amqp.Connection, error) { return nil, nil }), Config{
			Declare: func(context.Context, *amqp.Connection) (string, error) { tries.Add(1); return "", errors.New("down") },
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := c.Run(ctx); !errors.Is(err, ErrNotSubscribed) {
			t.Errorf("Run = %v, want ErrNotSubscribed", err)
		}
		if n := tries.Load(); n < 10 || n > 60 {
			t.Errorf("%d attempts within 10 s, want about 25", n)
		}
	})
}

func TestAfterCallsItsFunctionOnceUnlessCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		called := 0
		defer after(ctx, time.Second, func() { called++ })()
		cancel := after(ctx, time.Second, func() { t.Error("called although cancelled") })
		time.Sleep(time.Hour)
		synctest.Wait()
		if called != 0 {
			t.Error("called before ctx ended")
		}
		end()
		synctest.Wait()
		cancel()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if called != 1 {
			t.Errorf("called %d times, want once", called)
		}
	})
}

func TestWorkerSurvivesGoexitInAHandler(t *testing.T) {
	d, in := newDispatcher(t.Context()), newResults()
	var w workers
	w.start(1, func(context.Context, *Delivery) error { runtime.Goexit(); return nil }, &runState{
		shutdown: &shutdown{handlers: t.Context()}, dispatcher: d,
	})
	for range 2 {
		d.put(job{to: &in, d: &Delivery{}, tag: 1})
		<-in.arrived
		if res := d.collect(&in); len(res) != 1 || !errors.Is(res[0].err, errGoexit) {
			t.Errorf("results %v, want errGoexit", res)
		}
	}
	d.close()
	<-w.exited
}

// A Goexit of Run's own goroutine leaves no worker behind; goleak checks that.
func TestGoexitInKeyLeavesNoWorkerBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
			}
		}}
		c, err := New(b, Config{Queue: "orders", Workers: 3, Key: func(*Delivery) string { runtime.Goexit(); return "" }, Logger: slog.New(slog.DiscardHandler)}, nop)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = c.Run(t.Context())
		}()
		<-ended
		b.close()
	})
}

// A closingConnection is closed permanently once closed is set.
type closingConnection struct {
	*connections
	closed atomic.Pointer[error]
}

func (c *closingConnection) ConsumeConnection(ctx context.Context) (*amqp.Connection, error) {
	if err := c.closed.Load(); err != nil {
		return nil, *err
	}
	return c.connections.ConsumeConnection(ctx)
}

func TestReadyReturnsAtOnceAfterTheConnectionWasClosedPermanently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &closingConnection{connections: &connections{}}
		c, end := runOn(t, b, Config{}, nop)
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		closed := errors.New("amqpkit: connection closed")
		b.closed.Store(&closed)
		b.broker.DropConnections()
		time.Sleep(time.Second) // Run returns
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Ready(ctx); !errors.Is(err, closed) || !errors.Is(err, ErrNotSubscribed) || ctx.Err() != nil {
			t.Errorf("Ready = %v, want the error of the connection at once", err)
		}
		if err := end(); !errors.Is(err, closed) {
			t.Errorf("Run = %v", err)
		}
	})
}

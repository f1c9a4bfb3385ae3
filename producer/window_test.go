package producer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

func newReceipt(ctx context.Context, size int) *Receipt {
	return &Receipt{msg: Message{Publishing: amqp.Publishing{Body: make([]byte, size)}}, ctx: ctx, done: make(chan struct{})}
}

// Whatever happens in whatever order, the window stays within its bounds, keeps the order,
// gives every message one outcome, and is idle at the end.
func TestWindowKeepsItsBoundsAndItsOrder(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a reproducible sequence
		cfg := Config{MaxInFlight: 1 + rng.IntN(5), MaxInFlightBytes: 1 + rng.IntN(100)}
		w := newWindow(cfg)
		var all, inFlight []*Receipt
		number := map[*Receipt]int{}
		cancels := map[*Receipt]context.CancelFunc{}

		check := func() {
			t.Helper()
			messages, bytes := 0, 0
			for _, r := range append(w.queue.all(), inFlight...) {
				messages++
				bytes += len(r.msg.Publishing.Body)
			}
			if messages != w.messages || bytes != w.bytes {
				t.Fatalf("seed %d: window counts %d messages, %d bytes; it holds %d, %d", seed, w.messages, w.bytes, messages, bytes)
			}
			if messages > cfg.MaxInFlight || messages > 1 && bytes > cfg.MaxInFlightBytes {
				t.Fatalf("seed %d: %d messages, %d bytes are over %+v", seed, messages, bytes, cfg)
			}
			order := append(w.queue.all(), w.waiting.all()...)
			if !slices.IsSortedFunc(order, func(a, b *Receipt) int { return number[a] - number[b] }) {
				t.Fatalf("seed %d: the order is lost", seed)
			}
			if w.queue.first == nil && w.waiting.first != nil && len(inFlight) == 0 {
				t.Fatalf("seed %d: messages wait for room in an empty window", seed)
			}
		}
		for range 200 {
			switch rng.IntN(6) {
			case 0, 1:
				ctx, cancel := context.WithCancel(t.Context())
				r := newReceipt(ctx, rng.IntN(60))
				number[r], cancels[r] = len(all), cancel
				all = append(all, r)
				w.submit(r, false)
			case 2:
				if r := w.head(); r != nil && w.claim(r) {
					inFlight = append(inFlight, r)
				}
			case 3: // any order: confirms come as they like
				if len(inFlight) > 0 {
					i := rng.IntN(len(inFlight))
					r := inFlight[i]
					inFlight = slices.Delete(inFlight, i, i+1)
					w.finish(r, nil)
				}
			case 4:
				if len(all) > 0 {
					r := all[rng.IntN(len(all))]
					cancels[r]()
					w.cancel(r)
				}
			case 5:
				if rng.IntN(5) == 0 { // the session ends
					for _, r := range inFlight {
						w.setUnknown(r, amqp.ErrClosed)
					}
					w.requeue(inFlight)
					inFlight = nil
				}
			}
			check()
		}
		for _, r := range inFlight {
			w.finish(r, nil)
		}
		inFlight = nil
		w.abandon(ErrClosed)
		check()
		select {
		case <-w.idle:
		default:
			t.Fatalf("seed %d: the window is not idle", seed)
		}
		for _, r := range all {
			select {
			case <-r.done:
			default:
				t.Fatalf("seed %d: a message has no outcome", seed)
			}
			cancels[r]()
		}
		late := newReceipt(t.Context(), 1)
		w.submit(late, true)
		if <-late.done; !errors.Is(late.err, ErrNotPublished) || !errors.Is(late.err, ErrClosed) {
			t.Fatalf("seed %d: after the end: %v", seed, late.err)
		}
	}
}

func TestOutcomeOfALeavingMessageDependsOnHowFarItGot(t *testing.T) {
	cause := errors.New("gone")
	for name, c := range map[string]struct {
		prepare func(*window, *Receipt)
		want    error
	}{
		"queued": {func(*window, *Receipt) {}, ErrNotPublished},
		"sent":   {func(w *window, r *Receipt) { w.claim(r) }, ErrUnconfirmed},
		"sent, then blocked": {func(w *window, r *Receipt) {
			w.claim(r)
			w.setObstacle(func() error { return amqperr.ErrBlocked })
		}, ErrUnconfirmed},
		"queued again": {func(w *window, r *Receipt) {
			w.claim(r)
			w.setUnknown(r, amqp.ErrClosed)
			w.requeue([]*Receipt{r})
		}, ErrUnconfirmed},
		"queued again, never handed over": {func(w *window, r *Receipt) {
			w.claim(r)
			w.requeue([]*Receipt{r})
		}, ErrNotPublished},
	} {
		w := newWindow(Config{MaxInFlight: 2, MaxInFlightBytes: 100})
		ctx, cancel := context.WithCancelCause(t.Context())
		r := newReceipt(ctx, 1)
		w.submit(r, false)
		c.prepare(w, r)
		cancel(cause)
		w.cancel(r)
		if <-r.done; !errors.Is(r.err, c.want) || !errors.Is(r.err, cause) {
			t.Errorf("%s: %v, want %v wrapping the cause", name, r.err, c.want)
		}
		if MaybeDelivered(r.err) != (c.want == ErrUnconfirmed) {
			t.Errorf("%s: MaybeDelivered = %v", name, MaybeDelivered(r.err))
		}
	}
}

func TestOutcomeTellsWhatWasInTheWay(t *testing.T) {
	blocked := fmt.Errorf("%w: low on memory", amqperr.ErrBlocked)
	for name, c := range map[string]struct {
		obstacle func() error
		room     bool
		want     error
	}{
		"blocked":            {func() error { return blocked }, true, amqperr.ErrBlocked},
		"blocked, no room":   {func() error { return blocked }, false, amqperr.ErrBlocked},
		"no session":         {func() error { return errNoSession }, true, errNoSession},
		"no room":            {func() error { return nil }, false, errNoRoom},
		"nothing in the way": {func() error { return nil }, true, context.Canceled},
		"no session was":     {nil, true, context.Canceled},
	} {
		w := newWindow(Config{MaxInFlight: 1, MaxInFlightBytes: 100})
		w.setObstacle(c.obstacle)
		ctx, cancel := context.WithCancel(t.Context())
		if !c.room {
			w.submit(newReceipt(t.Context(), 1), false)
		}
		r := newReceipt(ctx, 1)
		w.submit(r, false)
		cancel()
		w.cancel(r)
		if <-r.done; !errors.Is(r.err, ErrNotPublished) || !errors.Is(r.err, c.want) || !errors.Is(r.err, context.Canceled) {
			t.Errorf("%s: %v, want ErrNotPublished, %v and the end of ctx", name, r.err, c.want)
		}
	}
}

func TestMessageWhoseCtxEndedIsNotSent(t *testing.T) {
	w := newWindow(Config{MaxInFlight: 2, MaxInFlightBytes: 100})
	ctx, cancel := context.WithCancel(t.Context())
	r := newReceipt(ctx, 1)
	w.submit(r, false)
	cancel()
	if w.claim(r) {
		t.Error("it was claimed for sending")
	}
	if <-r.done; !errors.Is(r.err, ErrNotPublished) || w.messages != 0 {
		t.Errorf("%v, %d messages left in the window", r.err, w.messages)
	}
}

func TestWatchedMessageLeavesByItself(t *testing.T) {
	w := newWindow(Config{MaxInFlight: 1, MaxInFlightBytes: 100})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := newReceipt(t.Context(), 1), newReceipt(ctx, 1)
	w.submit(first, true)
	w.submit(second, true)
	admitted := w.admitted(second)
	cancel()
	<-admitted
	if <-second.done; !errors.Is(second.err, ErrNotPublished) {
		t.Errorf("%v", second.err)
	}
}

func TestErrorsTellTheOutcomeAndNameTheMessage(t *testing.T) {
	r := newReceipt(t.Context(), 0)
	r.msg.Key, r.msg.Publishing.MessageId = "orders.paid", "id-1"
	returned := &ReturnedError{Code: 312, Text: "NO_ROUTE", Key: "orders.paid"}
	for _, c := range []struct {
		err   error
		is    error
		maybe bool
		word  string
	}{
		{err: r.failure(ErrNacked, nil), is: ErrNacked, word: "id-1"},
		{err: r.failure(ErrNotPublished, ErrClosed), is: ErrNotPublished, word: "orders.paid"},
		{err: r.failure(ErrUnconfirmed, amqp.ErrClosed), is: ErrUnconfirmed, maybe: true, word: "the default exchange"},
		{err: r.failure(returned, nil), is: returned, word: "no queue is bound"},
	} {
		if !errors.Is(c.err, c.is) || MaybeDelivered(c.err) != c.maybe || !strings.Contains(c.err.Error(), c.word) {
			t.Errorf("%v: want %v, MaybeDelivered %v, the word %q", c.err, c.is, c.maybe, c.word)
		}
	}
	r.unknown = errors.New("cable unplugged")
	for _, kind := range []error{ErrNacked, ErrNotPublished, ErrUnconfirmed, returned} {
		err := r.failure(kind, context.Canceled)
		var ret *ReturnedError
		if !errors.Is(err, ErrUnconfirmed) || errors.Is(err, ErrNacked) || errors.Is(err, ErrNotPublished) || errors.As(err, &ret) || !MaybeDelivered(err) {
			t.Errorf("after an unknown attempt %v became %v", kind, err)
		}
	}
	if !MaybeDelivered(nil) || !MaybeDelivered(errors.New("of somebody else")) {
		t.Error("MaybeDelivered is on the safe side")
	}
}

func TestFailFastEndsMessagesThatWereNeverSent(t *testing.T) {
	w := newWindow(Config{MaxInFlight: 4, MaxInFlightBytes: 100, FailFast: true})
	submit := func(twin uint64) *Receipt {
		r := newReceipt(t.Context(), 1)
		r.twin = twin
		w.submit(r, false)
		return r
	}
	lost, sent := submit(0), submit(7)
	sent.msg.Publishing.Headers = amqp.Table{"a": 1}
	for _, r := range []*Receipt{lost, sent} {
		if w.head() != r || !w.claim(r) {
			t.Fatal("a queued message cannot be claimed")
		}
	}
	w.setUnknown(lost, amqp.ErrClosed)
	w.requeue([]*Receipt{lost})
	aside, free, waits := submit(7), submit(0), submit(0)
	if w.claim(w.head()) { // lost, which is in flight again
		w.head() // sets the twin aside
	}
	w.requeue([]*Receipt{lost})
	blocked := errors.New("blocked")
	var obstacle error
	w.setObstacle(func() error { return obstacle })
	obstacle = blocked
	w.checkObstacle()
	later := submit(0)
	for i, r := range []*Receipt{aside, free, waits, later} {
		select {
		case <-r.done:
			if !errors.Is(r.err, ErrNotPublished) || !errors.Is(r.err, blocked) {
				t.Errorf("message %d: %v, want ErrNotPublished and the obstacle", i, r.err)
			}
		default:
			t.Errorf("message %d has no outcome", i)
		}
	}
	for name, r := range map[string]*Receipt{"of unknown outcome": lost, "sent": sent} {
		select {
		case <-r.done:
			t.Errorf("a message %s: %v", name, r.err)
		default:
		}
	}
	obstacle = nil
	if r := submit(0); w.head() != lost || r.state != queued {
		t.Error("the window does not work again")
	}
}

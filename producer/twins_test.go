package producer

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	amqp "github.com/rabbitmq/amqp091-go"
)

// twinOf returns a message that has a twin in each other one with the same id.
func twinOf(ctx context.Context, id string, headers amqp.Table) *Receipt {
	r := newReceipt(ctx, 1)
	r.msg.Publishing.MessageId, r.msg.Publishing.Headers = id, headers
	r.twin = twin(&r.msg)
	return r
}

// flying sends everything that may be sent.
func flying(w *window) (rs []*Receipt) {
	for r := w.head(); r != nil; r = w.head() {
		w.claim(r)
		rs = append(rs, r)
	}
	return rs
}

func TestATwinIsSentWhenTheOtherHasItsOutcomeAndHoldsUpNobody(t *testing.T) {
	w := newWindow(Config{}.withDefaults())
	headers := amqp.Table{"n": int64(1)}
	all := []*Receipt{
		twinOf(t.Context(), "a", headers), twinOf(t.Context(), "a", nil), twinOf(t.Context(), "a", headers),
		twinOf(t.Context(), "b", nil), twinOf(t.Context(), "b", nil), twinOf(t.Context(), "b", headers), twinOf(t.Context(), "b", nil), newReceipt(t.Context(), 1),
	}
	for _, r := range all {
		w.submit(r, false)
	}
	expect := func(when string, want ...int) {
		t.Helper()
		var got []int
		for _, r := range flying(w) {
			for i := range all {
				if all[i] == r {
					got = append(got, i)
				}
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%s %v are sent, want %v", when, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s %v are sent, want %v", when, got, want)
			}
		}
	}
	expect("at first", 0, 3, 4, 7) // without headers they are interchangeable
	w.finish(all[3], nil)
	expect("while one of two is in flight")
	w.finish(all[4], nil)
	expect("after both", 5)
	w.finish(all[5], nil)
	expect("after the one with headers", 6)
	w.requeue(all[:1]) // the session has ended
	expect("over the next session", 0)
	w.finish(all[0], nil)
	expect("after its outcome", 1)
	w.finish(all[1], nil)
	expect("after the second one", 2)
	for _, r := range []*Receipt{all[2], all[6], all[7]} {
		w.finish(r, nil)
	}
	if len(w.twins) != 0 || w.flight != 0 || w.messages != 0 {
		t.Errorf("%d twins, %d in flight and %d messages are left", len(w.twins), w.flight, w.messages)
	}
}

func TestATwinThatWaitsEndsWithItsCtx(t *testing.T) {
	w := newWindow(Config{}.withDefaults())
	ctx, cancel := context.WithCancel(t.Context())
	first, second := twinOf(t.Context(), "a", amqp.Table{}), twinOf(ctx, "a", amqp.Table{"n": nil})
	w.submit(first, false)
	w.submit(second, false)
	if n := len(flying(w)); n != 1 {
		t.Fatalf("%d of the twins are in flight", n)
	}
	cancel()
	w.cancel(second)
	if !errors.Is(second.err, ErrNotPublished) || !errors.Is(second.err, errTwin) {
		t.Errorf("%v, want ErrNotPublished and the reason", second.err)
	}
	w.finish(first, nil)
	if w.head() != nil || w.messages != 0 || len(w.twins) != 0 {
		t.Error("something is left")
	}
}

// Whatever happens in whatever order, each twin gets one outcome, and nothing is left.
func TestTwinsInAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a reproducible sequence
		w := newWindow(Config{MaxInFlight: 8, MaxInFlightBytes: 1 << 20})
		var all, inFlight []*Receipt
		step := func(n int) {
			switch n {
			case 0:
				var headers amqp.Table
				if rng.IntN(2) == 0 {
					headers = amqp.Table{"n": nil}
				}
				ctx, cancel := context.WithCancel(t.Context())
				t.Cleanup(cancel)
				r := twinOf(ctx, string(rune('a'+rng.IntN(3))), headers)
				all = append(all, r)
				w.submit(r, false)
			case 1:
				if r := w.head(); r != nil && w.claim(r) {
					for _, other := range inFlight {
						if other.twin == r.twin && (len(other.msg.Publishing.Headers) > 0 || len(r.msg.Publishing.Headers) > 0) {
							t.Fatalf("seed %d: twins are in flight together", seed)
						}
					}
					inFlight = append(inFlight, r)
				}
			case 2:
				if len(inFlight) > 0 {
					w.finish(inFlight[0], nil)
					inFlight = inFlight[1:]
				}
			case 3:
				w.requeue(inFlight)
				inFlight = nil
			case 4:
				if len(all) > 0 {
					if r := all[rng.IntN(len(all))]; r.state == waiting || r.state == queued {
						w.cancel(r)
					}
				}
			}
		}
		for range 200 {
			step(rng.IntN(5))
		}
		for range 2 * len(all) { // it comes to an end by itself
			step(1)
			step(2)
		}
		for i, r := range all {
			if r.state != done {
				t.Fatalf("seed %d: message %d of %d has no outcome", seed, i, len(all))
			}
		}
		if len(w.twins) != 0 || w.flight != 0 || w.messages != 0 {
			t.Fatalf("seed %d: %d twins, %d in flight and %d messages are left", seed, len(w.twins), w.flight, w.messages)
		}
	}
}

func TestARefusedMessageEndsSoonAndMayLeaveBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(Config{}.withDefaults())
		var rs []*Receipt
		for range 3 {
			r := newReceipt(t.Context(), 1)
			w.submit(r, false)
			w.refuse(r, r.failure(ErrNotPublished, errors.New("missing")))
			rs = append(rs, r)
		}
		if w.cancel(rs[1]); rs[1].state != done || w.messages != 2 || w.head() != nil {
			t.Errorf("a message that its publisher gave up is still there: %d messages", w.messages)
		}
		for _, r := range []*Receipt{rs[0], rs[2]} {
			if <-r.done; r.err == nil || !strings.Contains(r.err.Error(), "missing") {
				t.Errorf("%v, want the refusal", r.err)
			}
		}
		r := newReceipt(t.Context(), 1)
		w.submit(r, false)
		w.refuse(r, errors.New("missing"))
		if _, n := w.abandon(ErrClosed); n != 1 || w.messages != 0 {
			t.Errorf("%d messages ended with the producer, want 1; %d are left", n, w.messages)
		}
	})
}

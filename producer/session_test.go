package producer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/wire"
)

func TestMaxMessageSizeOfTheBrokerIsLearnt(t *testing.T) {
	s := newSession(t.Context())
	s.p.maxSize.Store(100)
	s.settleLost(&amqp.Error{Code: 406, Server: true, Reason: "PRECONDITION_FAILED - message size 7 is larger than configured max size 5"})
	r := &Receipt{msg: Message{Publishing: amqp.Publishing{Body: make([]byte, 6)}}}
	var field *amqperr.FieldError
	if err := s.p.prepare(r); !errors.As(err, &field) || field.Field != "Body" {
		t.Errorf("a message of 6 bytes: %v, want a FieldError", err)
	}
	for _, reason := range []*amqp.Error{nil, {Code: 406, Reason: "PRECONDITION_FAILED - invalid expiration"}, {Code: 404, Reason: "message size 7 is larger than max size 3"}} {
		if size, limit, ok := tooLarge(reason); ok {
			t.Errorf("%v is taken for a size of %d over %d", reason, size, limit)
		}
	}
}

func newSession(ctx context.Context) *session {
	cfg := Config{MaxInFlight: 10, MaxInFlightBytes: 100, ConfirmTimeout: time.Second, Logger: slog.New(slog.DiscardHandler)}
	return &session{
		p:    &Producer{cfg: cfg, ctx: ctx, window: newWindow(cfg)},
		ac:   new(amqp.Connection),
		ch:   new(amqp.Channel),
		gate: new(wire.Gate), sent: make(chan *Receipt, 10), resolved: make(chan struct{}), expired: make(chan struct{}),
		confirms: new(wire.Confirms),
	}
}

// submit puts n messages into the session's window, handed over at a time and never confirmed.
func (s *session) submit(ctx context.Context, n int, at time.Time) (rs []*Receipt) {
	for range n {
		r := newReceipt(ctx, 1)
		s.p.window.submit(r, false)
		s.p.window.claim(r)
		r.confirm, r.sentAt = new(amqp.DeferredConfirmation), at
		rs = append(rs, r)
	}
	return rs
}

// amqp091-go fails what is outstanding in no order.
func TestLostMessagesAreSentAgainInTheirOrder(t *testing.T) {
	s := newSession(t.Context())
	var all []*Receipt
	for i := range 6 {
		r := newReceipt(t.Context(), 1)
		s.p.window.submit(r, false)
		all = append(all, r)
		if i < 5 && !s.p.window.claim(r) {
			t.Fatal("a queued message cannot be claimed")
		}
	}
	for i, r := range all[:3] {
		r.confirm = &amqp.DeferredConfirmation{DeliveryTag: uint64(i + 1)}
	}
	s.lost = []*Receipt{all[3], all[2], all[0], all[1]} // the fourth failed in sending
	s.unsent = all[4]
	s.settleLost(&amqp.Error{Code: 501, Reason: "EOF"})
	for i, r := range s.p.window.queue.all() {
		if r != all[i] {
			t.Fatalf("place %d in the queue is another message's", i)
		}
	}
	if all[4].unknown != nil || all[3].unknown == nil {
		t.Error("unknown is the outcome of what was handed over, and of nothing else")
	}
}

// What was sent with the oldest would wait as long again; what is younger goes on over the next channel.
func TestWhatWaitedHalfOfTheConfirmTimeoutIsGivenUpWithTheOldest(t *testing.T) {
	s := newSession(t.Context())
	now := time.Now()
	half := s.p.cfg.ConfirmTimeout / 2
	old := slices.Concat(s.submit(t.Context(), 1, now.Add(-2*half)), s.submit(t.Context(), 1, now.Add(-half)))
	young := s.submit(t.Context(), 2, now.Add(-half+1))
	s.lost, s.overdue = slices.Concat(young, old), now
	close(s.expired)
	s.settleLost(nil)
	for _, r := range old {
		if <-r.done; !errors.Is(r.err, ErrUnconfirmed) || !errors.Is(r.err, ErrConfirmTimeout) || !strings.Contains(r.err.Error(), "1s") {
			t.Errorf("overdue: %v, want ErrUnconfirmed, ErrConfirmTimeout and how long it was", r.err)
		}
	}
	if again := s.p.window.queue.all(); len(again) != 2 || again[0].unknown == nil {
		t.Errorf("%d messages are to be sent again, want the 2 younger ones, of unknown outcome", len(again))
	}
}

func TestConfirmClockRestartsWithEachOldestMessage(t *testing.T) {
	var c confirmClock
	at := time.Now()
	for i, step := range []struct {
		oldest uint64
		block  bool
		want   time.Duration
	}{
		{1, false, 0},
		{1, false, time.Second},
		{1, false, 2 * time.Second},
		{5, false, 0}, // the older ones were confirmed
		{5, false, time.Second},
		{5, true, 0}, // the broker reads nothing
		{5, false, time.Second},
	} {
		if step.block {
			c.restart(at)
		}
		if got := c.elapsed(step.oldest, at); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
		at = at.Add(time.Second)
	}
}

func TestNoAnswerIsALateOneWhileTheBrokerBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gate wire.Gate
		ctx, cancel := context.WithCancelCause(t.Context())
		gate.Set(amqp.Blocking{Active: true})
		go cancelAfter(ctx, cancel, &gate, callTimeout)
		time.Sleep(10 * callTimeout)
		if ctx.Err() != nil {
			t.Fatal("the request was given up although the broker reads nothing")
		}
		gate.Set(amqp.Blocking{})
		began := time.Now()
		<-ctx.Done()
		if took := time.Since(began); took != callTimeout || context.Cause(ctx) != context.DeadlineExceeded {
			t.Errorf("given up after %v with %v, want %v", took, context.Cause(ctx), callTimeout)
		}
	})
}

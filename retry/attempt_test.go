package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

type exitingError struct{}

func (exitingError) Error() string { runtime.Goexit(); return "" }

type panickingError struct{}

func (panickingError) Error() string   { panic(exitingError{}) }
func (panickingError) Is(error) bool   { panic(errors.New("in Is")) }
func (panickingError) As(any) bool     { panic(nil) }
func (panickingError) Permanent() bool { return true }

// However a handler ends, also outside of a consumer, it has had an attempt, and the rules for its failure hold.
func TestEveryEndOfAHandlerIsAnAttempt(t *testing.T) {
	goexit := func(context.Context, *consumer.Delivery) error { runtime.Goexit(); return nil }
	exits := retry.When("exits", func(error) bool { runtime.Goexit(); return false }, retry.Discard)
	for name, c := range map[string]struct {
		h     consumer.Handler
		rules []retry.Rule
		queue string // where the message goes
		text  string
	}{
		"Goexit":                {goexit, nil, "orders.wait.10s", "runtime.Goexit"},
		"Goexit, with a rule":   {goexit, []retry.Rule{retry.When("all", func(error) bool { return true }, retry.Park)}, "orders.parked", "runtime.Goexit"},
		"Goexit in Error":       {fails(exitingError{}), nil, "orders.wait.10s", "runtime.Goexit"},
		"Goexit in a rule":      {fails(errBoom), []retry.Rule{exits}, "orders.wait.10s", "runtime.Goexit"},
		"panic":                 {func(context.Context, *consumer.Delivery) error { panic("at the disco") }, nil, "orders.wait.10s", "panic: at the disco"},
		"panic(nil)":            {func(context.Context, *consumer.Delivery) error { panic(nil) }, nil, "orders.wait.10s", "panic called with nil"},
		"panic with such":       {func(context.Context, *consumer.Delivery) error { panic(panickingError{}) }, nil, "orders.wait.10s", "runtime.Goexit"},
		"panic in Error, As, …": {fails(panickingError{}), nil, "orders.wait.10s", "panic"},
		"a typed nil":           {fails((*brittleError)(nil)), nil, "orders.wait.10s", "nil pointer"},
		"a typed nil rejection": {fails((*consumer.RejectError)(nil)), nil, "orders.wait.10s", "nil pointer"},
		"a typed nil requeue":   {fails((*consumer.RequeueError)(nil)), nil, "orders.wait.10s", "nil pointer"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(10 * s), Rules: c.rules, Logger: quiet})
			m := &mover{}
			if err := plan.Middleware(m)(c.h)(t.Context(), &consumer.Delivery{Queue: "orders"}); err != nil || len(m.moved) != 1 || m.moved[0].queue != c.queue {
				t.Fatalf("%v, moved %+v, want it in %s", err, m.moved, c.queue)
			}
			h := m.moved[0].msg.Headers
			if text := fmt.Sprint(h[history.HeaderError]); h[history.HeaderAttempts] != int64(1) || !strings.Contains(text, c.text) {
				t.Errorf("%v attempts, error %q, want %q", h[history.HeaderAttempts], text, c.text)
			}
		})
	}
}

// A classic queue counts nothing.
func TestAMessageWhoseHandlerEndsItsGoroutineIsParked(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s), Source: &topology.Queue{Type: topology.Classic}}, func(b *bench) {
		var got calls
		b.run(func(ctx context.Context, d *consumer.Delivery) error {
			_ = got.fail(nil)(ctx, d)
			runtime.Goexit()
			return nil
		})
		b.publish(amqp.Publishing{})
		if b.parked(time.Minute); !slices.Equal(got.attempts, []int{1, 2}) {
			t.Errorf("attempts %v, want 1 and 2", got.attempts)
		}
	})
}

// An unanswered move has its attempt repeated, in whichever process. No copy exceeds the policy.
func TestAnUnansweredMoveHasItsAttemptRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got calls
		left := 3
		to := publishing(func(context.Context, string, amqp.Publishing) error {
			if left--; left >= 0 {
				return producer.ErrUnconfirmed
			}
			return nil
		})
		process := func() consumer.Handler {
			return planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s).MaxAttempts(1), Logger: quiet}).Middleware(to)(got.fail(errBoom))
		}
		for i, want := range []time.Duration{s, lastHold, lastHold, 0} {
			var failed *retry.MoveError
			var requeue *consumer.RequeueError
			d := &consumer.Delivery{Queue: "orders", Delivery: amqp.Delivery{Redelivered: i > 0, Headers: amqp.Table{"x-acquired-count": int64(i)}}}
			err := process()(t.Context(), d)
			if want > 0 && (!errors.As(err, &failed) || !errors.As(err, &requeue) || requeue.After != want) || want == 0 && err != nil {
				t.Errorf("delivery %d: %v, want it requeued after %v", i, err, want)
			}
		}
		if !slices.Equal(got.attempts, []int{1, 1, 1, 1}) {
			t.Errorf("attempts %v, want the first and three repetitions", got.attempts)
		}
	})
}

// Headers cannot hold a message for longer than the plan could have asked for.
func TestAForgedWaitIsIgnored(t *testing.T) {
	const far = "3026-01-01T00:00:00.000Z"
	for name, c := range map[string]struct {
		headers amqp.Table
		first   time.Duration // until the handler is called
	}{
		"far":                {amqp.Table{history.HeaderDue: far}, 0},
		"far, by attempts":   {amqp.Table{history.HeaderDue: far, history.HeaderAttempts: int64(1), history.HeaderLastFailure: "2000-01-01T00:00:00.000Z"}, 0},
		"just beyond":        {amqp.Table{history.HeaderDue: "2000-01-01T00:02:41.000Z"}, 0},
		"the longest":        {amqp.Table{history.HeaderDue: "2000-01-01T00:02:40.000Z"}, 160 * s},
		"failed in 3026 too": {amqp.Table{history.HeaderDue: "3026-01-01T00:00:40.000Z", history.HeaderAttempts: int64(1), history.HeaderLastFailure: far}, 10 * s},
		"past":               {amqp.Table{history.HeaderDue: "0000-01-01T00:00:00.000Z"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
				c.headers[history.HeaderQueue] = "orders"
				var got calls
				b.run(got.fail(errBoom))
				start := time.Now()
				b.publish(amqp.Publishing{Headers: c.headers})
				b.parked(time.Hour)
				if waited := got.at[0].Sub(start).Round(s); waited != c.first {
					t.Errorf("the handler was called after %v, want %v", waited, c.first)
				}
			})
		})
	}
}

func TestAnAfterBeyondThePlanIsParkedAtOnce(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(s)}, func(b *bench) {
		var got calls
		b.run(got.fail(retry.After(time.Hour, errBoom)))
		b.publish(amqp.Publishing{})
		if m := b.parked(s); got.count() != 1 || m.Headers[history.HeaderReason] != history.ReasonAfter {
			t.Errorf("parked because of %v after %d calls", m.Headers[history.HeaderReason], got.count())
		}
	})
	synctest.Test(t, func(t *testing.T) { // the longest takes 16 moves
		plan := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s), Logger: quiet})
		m := &mover{}
		var got calls
		h := plan.Middleware(m)(got.fail(retry.After(16*s, errBoom)))
		d := &consumer.Delivery{Queue: "orders"}
		for got.count() < 2 {
			if err := h(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			last := m.moved[len(m.moved)-1]
			d = delivered(last)
			d.Queue = "orders"
			time.Sleep(s)
		}
		if n := len(m.moved); n != 17 || m.moved[16].queue != "orders.parked" {
			t.Errorf("%d moves, want 16 and one to the parking queue", n)
		}
	})
}

func TestALogLineFollowsItsMove(t *testing.T) {
	for name, c := range map[string]struct {
		refuses []string
		err     error
		lines   []string // the beginning of each
	}{
		"it waits":                 {nil, errBoom, []string{"INFO retry: message failed, it waits"}},
		"it is parked":             {nil, amqperr.Permanent(errBoom), []string{"WARN retry: message parked"}},
		"its queue is missing":     {[]string{"orders.parked"}, amqperr.Permanent(errBoom), []string{"WARN retry: message not moved, requeued at the tail of its queue"}},
		"no queue accepts it":      {[]string{"orders.parked", "orders"}, amqperr.Permanent(errBoom), []string{"WARN retry: message not moved, requeued "}},
		"it is discarded":          {nil, errGone, []string{"INFO retry: message failed and was discarded"}},
		"it is postponed":          {nil, consumer.Requeue(s), nil},
		"it is handled":            {nil, nil, nil},
		"its worker waits, then …": {nil, errStock, []string{"INFO retry: message failed, its worker waits", "WARN retry: message parked"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				plan := planned(t, retry.Config{
					Queue: "orders", Policy: retry.Schedule(10 * s), Logger: slog.New(slog.NewTextHandler(&log, nil)), MaxInProcessDelay: s,
					Rules: []retry.Rule{retry.OnError(errGone, retry.Discard), retry.OnError(errStock, retry.Schedule(s))},
				})
				_ = plan.Middleware(&mover{refuses: c.refuses})(fails(c.err))(t.Context(), &consumer.Delivery{Queue: "orders"})
				lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
				if log.Len() == 0 {
					lines = nil
				}
				ids := map[string]bool{}
				for i, line := range lines {
					_, id, _ := strings.Cut(line, "message_id=")
					id, _, _ = strings.Cut(id, " ")
					ids[id] = true
					line = strings.NewReplacer(`"`, "", "level=", "", "msg=", "").Replace(line)
					_, line, _ = strings.Cut(line, " ") // the time
					if i >= len(c.lines) || !strings.HasPrefix(line, c.lines[i]) {
						t.Errorf("line %d is %q, want %q", i, line, c.lines)
					}
				}
				if len(lines) != len(c.lines) || len(lines) > 0 && (len(ids) != 1 || ids[""]) {
					t.Errorf("%d lines with the ids %v, want %d with one", len(lines), ids, len(c.lines))
				}
			})
		})
	}
}

// Warnings about moves that fail are limited, and begin again after a move to the queue.
func TestWarningsAboutMovesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := &loggingMover{mover: mover{refuses: []string{"orders.parked"}}, log: slog.New(slog.NewTextHandler(&log, nil))}
		h := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s).MaxAttempts(1)}).Middleware(m)(fails(errBoom))
		lines := func(level string) int { return strings.Count(log.String(), "level="+level) }
		fail := func() {
			if err := h(t.Context(), &consumer.Delivery{Queue: "orders"}); err != nil {
				t.Fatal(err)
			}
		}
		for range 61 {
			fail()
			time.Sleep(s)
		}
		if n := lines("WARN"); n != 2 || !strings.Contains(log.String(), "repeated=59") {
			t.Errorf("%d warnings in a minute, want two: %s", n, log.String())
		}
		if first, _, _ := strings.Cut(log.String(), "\n"); !strings.Contains(first, " handler_error=boom ") || !strings.Contains(first, ` error="orders.parked: `) || strings.Contains(first, "cause=") {
			t.Errorf("%s\nwant the handler's error and the move's", first)
		}
		m.refuses = nil
		fail() // is parked
		m.refuses = []string{"orders.parked"}
		fail()
		if n := lines("WARN"); n != 4 {
			t.Errorf("%d warnings, want the parked message and the next refusal too: %s", n, log.String())
		}
	})
}

// A loggingMover has a Logger, as a Producer does.
type loggingMover struct {
	mover
	log *slog.Logger
}

func (m *loggingMover) Logger() *slog.Logger { return m.log }

func TestTheRoutingKeyIsThatOfTheFirstPublish(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		b.onConnection(func(ac *amqp.Connection) error {
			return topology.Topology{
				Exchanges: []topology.Exchange{{Name: "events", Type: topology.Topic}},
				Queues:    []topology.Queue{{Name: "audit"}},
				Bindings:  []topology.Binding{{Source: "events", Queue: "orders", Key: "order.#"}},
			}.Declare(b.t.Context(), ac)
		})
		var keys []string
		var got calls
		b.run(got.fail(errBoom), func(c *consumer.Config) {
			c.Key = func(d *consumer.Delivery) string {
				keys = append(keys, retry.RoutingKey(d))
				return retry.RoutingKey(d)
			}
		})
		if err := b.producer.Publish(b.t.Context(), "events", "order.paid", amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		if b.parked(time.Minute); len(keys) < 2 || slices.ContainsFunc(keys, func(k string) bool { return k != "order.paid" }) {
			t.Errorf("keys %q, want order.paid for each delivery", keys)
		}
	})
}

func TestASuccessfulMessageCostsThreeAllocations(t *testing.T) {
	h := planned(t, retry.Config{Queue: "orders", Policy: retry.Schedule(s)}).Middleware(&mover{})(fails(nil))
	d := &consumer.Delivery{Queue: "orders", Delivery: amqp.Delivery{Headers: amqp.Table{"traceparent": "00-0"}, Body: make([]byte, 4096)}}
	if n := testing.AllocsPerRun(1000, func() { _ = h(t.Context(), d) }); n > 4 { // a goroutine may need one more
		t.Errorf("%v allocations, want 3", n)
	}
}

// BenchmarkAttempt measures a handler that succeeds at once, with and without the middleware.
func BenchmarkAttempt(b *testing.B) {
	plan, err := retry.New(retry.Config{Queue: "orders", Policy: retry.Schedule(s)})
	if err != nil {
		b.Fatal(err)
	}
	d := &consumer.Delivery{Queue: "orders", Delivery: amqp.Delivery{Body: make([]byte, 100)}}
	for name, h := range map[string]consumer.Handler{"handler": fails(nil), "middleware": plan.Middleware(nil)(fails(nil))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = h(b.Context(), d)
			}
		})
	}
}

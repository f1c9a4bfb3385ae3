package retrying

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// counting is a Publisher that counts moves.
type counting struct {
	*producer.Producer
	moves *atomic.Int64
}

func (c counting) Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	c.moves.Add(1)
	return c.Producer.Republish(ctx, exchange, key, msg)
}

// consume runs a consumer of the bench's queue with another Publisher.
func (b *retryBench) consume(to retry.Publisher, workers int, h consumer.Handler) {
	b.t.Helper()
	c, err := consumer.New(b.conn, consumer.Config{
		Queue: b.name, Workers: workers, Logger: slog.New(slog.DiscardHandler), Middleware: []consumer.Middleware{b.plan.Middleware(to)},
	}, h)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			b.t.Errorf("Run = %v", err)
		}
	})
	if err := c.Ready(kit.Within(b.t, 20*time.Second)); err != nil {
		b.t.Fatal(err)
	}
}

// Whatever the headers claim, a message is handled or parked after a few moves.
func TestS77ForgedHeadersNeitherHoldAMessageNorMakeItCircle(t *testing.T) {
	log := &journal{}
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(50*time.Millisecond, 100*time.Millisecond), Logger: log.logger()}, "")
	var moves atomic.Int64
	var calls callLog
	b.consume(counting{b.p, &moves}, 4, calls.fail)
	at := func(d time.Duration) string { return time.Now().UTC().Add(d).Format("2006-01-02T15:04:05.000Z07:00") }
	const far = "3026-01-01T00:00:00.000Z"
	forged := map[string]struct {
		headers amqp.Table
		calls   int
		ignored bool
	}{
		"far":                {amqp.Table{history.HeaderDue: far}, 3, true},
		"far, failed now":    {amqp.Table{history.HeaderDue: far, history.HeaderAttempts: int64(1), history.HeaderLastFailure: at(0)}, 2, true},
		"far, failed then":   {amqp.Table{history.HeaderDue: "3026-01-01T00:00:01.000Z", history.HeaderAttempts: int64(1), history.HeaderLastFailure: far}, 2, false},
		"beyond the plan":    {amqp.Table{history.HeaderDue: at(time.Hour)}, 3, true},
		"within the plan":    {amqp.Table{history.HeaderDue: at(time.Second)}, 3, false},
		"past":               {amqp.Table{history.HeaderDue: "0001-01-01T00:00:00.000Z"}, 3, false},
		"nonsense":           {amqp.Table{history.HeaderDue: "-1", history.HeaderAttempts: "many", history.HeaderHistory: int32(7)}, 3, false},
		"another type":       {amqp.Table{history.HeaderDue: int64(1) << 62}, 3, false},
		"negative attempts":  {amqp.Table{history.HeaderAttempts: int64(-1) << 62}, 3, false},
		"many attempts":      {amqp.Table{history.HeaderAttempts: int64(1) << 62}, 0, false},
		"first failure":      {amqp.Table{history.HeaderAttempts: int64(1), history.HeaderFirstFailure: far}, 2, false},
		"an unknown reason":  {amqp.Table{history.HeaderPark: "whim"}, 0, false},
		"a reason":           {amqp.Table{history.HeaderPark: history.ReasonAge}, 0, false},
		"tries, as formerly": {amqp.Table{"x-amqpkit-tries": int64(1) << 62}, 3, false},
	}
	for id, f := range forged {
		f.headers[history.HeaderQueue] = b.name
		b.publish(amqp.Publishing{MessageId: id, Headers: f.headers})
	}
	got := kit.Copies(b.parked(len(forged)))
	for id, f := range forged {
		if n := len(calls.of(id)); n != f.calls || got[id] != 1 {
			t.Errorf("%s: %d calls, parked %d times, want %d calls", id, n, got[id], f.calls)
		}
		if n := len(log.of(id, "ignored")); (n > 0) != f.ignored {
			t.Errorf("%s: logged %d times that it is ignored", id, n)
		}
	}
	if n, most := moves.Load(), int64(len(forged)*3+maxMovesOfAWait); n > most {
		t.Errorf("%d moves, want %d at most", n, most)
	}
}

const maxMovesOfAWait = 16 + 2 // see retry.After

// A wait that takes more than a few stays in the longest wait queue is not made.
func TestS77ALongWaitDoesNotCircleThroughShortWaitQueues(t *testing.T) {
	log := &journal{}
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(100 * time.Millisecond).MaxAttempts(2), Logger: log.logger()}, "")
	var moves atomic.Int64
	called := make(chan time.Time, 10)
	b.consume(counting{b.p, &moves}, 2, func(_ context.Context, d *consumer.Delivery) error {
		if d.MessageId == "long" {
			return retry.After(time.Hour, errBoom)
		}
		called <- time.Now()
		return retry.After(1500*time.Millisecond, errBoom)
	})
	b.publish(amqp.Publishing{MessageId: "long"})
	parked, err := b.raw.ConsumeWithContext(t.Context(), b.plan.ParkingQueue(), "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := kit.Receive(t, parked, "parked message")
	kit.WaitFor(t, func() bool { return len(log.of("long", "parked")) == 1 })
	if why := d.Headers[history.HeaderReason]; why != history.ReasonAfter || moves.Load() != 1 {
		t.Errorf("parked because of %v after %d moves", why, moves.Load())
	}
	moves.Store(0)
	b.publish(amqp.Publishing{MessageId: "short"})
	first, second := kit.Receive(t, called, "attempt"), kit.Receive(t, called, "second attempt")
	if waited := second.Sub(first); waited < 1500*time.Millisecond {
		t.Errorf("it waited for %v, want 1.5 s", waited)
	}
	kit.Receive(t, parked, "parked message")
	if n := moves.Load(); n > maxMovesOfAWait+1 {
		t.Errorf("%d moves, want %d at most", n, maxMovesOfAWait+1)
	}
}

// unheard is a Publisher whose first moves arrive without an answer.
type unheard struct {
	*producer.Producer
	left *atomic.Int64
}

func (u unheard) Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	err := u.Producer.Republish(ctx, exchange, key, msg)
	if err == nil && u.left.Add(-1) >= 0 {
		err = fmt.Errorf("no answer: %w", producer.ErrUnconfirmed)
	}
	return err
}

// An attempt is repeated after an unanswered move, and only then. Each copy keeps to the policy.
func TestS78AnAttemptIsRepeatedOnlyAfterARedelivery(t *testing.T) {
	for name, source := range map[string]*topology.Queue{"quorum": {}, "classic": {Type: topology.Classic}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const moves = 1 // without an answer
			b := newRetryBench(t, retry.Config{Policy: retry.Schedule(100 * time.Millisecond).MaxAttempts(1), Source: source}, "")
			var left atomic.Int64
			left.Store(moves)
			var calls callLog
			for range 2 { // processes
				b.consume(unheard{b.p, &left}, 1, calls.fail)
			}
			b.publish(amqp.Publishing{MessageId: "m"})
			for _, d := range b.parked(moves + 1) {
				if d.MessageId != "m" || d.Headers[history.HeaderAttempts] != int64(1) {
					t.Errorf("parked %q after %v attempts, want 1", d.MessageId, d.Headers[history.HeaderAttempts])
				}
			}
			var attempts []int
			for _, c := range calls.of("m") {
				attempts = append(attempts, c.attempt)
			}
			if !slices.Equal(attempts, []int{1, 1}) {
				t.Errorf("attempts %v, want the first, and its repetition after the unanswered move", attempts)
			}
			kit.WaitFor(t, func() bool { return b.waiting() == 0 })
		})
	}
}

// A refused move repeats nothing: the message carries its state in its headers, to whichever process has it next.
func TestS78ARefusedMoveRepeatsNoAttempt(t *testing.T) {
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(100 * time.Millisecond).MaxAttempts(1)}, "")
	if _, err := b.conn.PublishConnection(kit.Within(t, 10*time.Second)); err != nil { // Setup declares the queue for both sessions
		t.Fatal(err)
	}
	w := watched{b.p, make(chan struct{}, 1)}
	var calls callLog
	for range 2 {
		b.consume(w, 1, calls.fail)
	}
	if _, err := b.raw.QueueDelete(b.plan.ParkingQueue(), false, false, false); err != nil {
		t.Fatal(err)
	}
	b.publish(amqp.Publishing{MessageId: "m"})
	for range 4 {
		kit.Receive(t, w.refused, "refusal")
	}
	if err := b.plan.Declare(kit.Within(t, 10*time.Second), kit.DialRaw(t)); err != nil {
		t.Fatal(err)
	}
	b.parked(1)
	if n := len(calls.of("m")); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

type typedNilError struct{ text string }

func (e *typedNilError) Error() string { return e.text } // panics if e is nil

type exitingError struct{}

func (exitingError) Error() string { runtime.Goexit(); return "" }

// Every end of a handler is an attempt, in queues that count nothing too.
func TestS79EveryEndOfAHandlerIsAnAttempt(t *testing.T) {
	ends := map[string]func() error{
		"an error":                  func() error { return errBoom },
		"Goexit":                    func() error { runtime.Goexit(); return nil },
		"Goexit in a deferred call": func() error { defer runtime.Goexit(); return nil },
		"panic":                     func() error { panic("at the disco") },
		"panic(nil)":                func() error { panic(nil) },
		"panic with a typed nil":    func() error { panic((*typedNilError)(nil)) },
		"a typed nil":               func() error { return (*typedNilError)(nil) },
		"Goexit in Error":           func() error { return exitingError{} },
		"panic with such an error":  func() error { panic(exitingError{}) },
		"a nil dereference":         func() error { var d *consumer.Delivery; d.Body = nil; return nil },
	}
	for name, source := range map[string]*topology.Queue{"quorum": {}, "classic": {Type: topology.Classic}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newRetryBench(t, retry.Config{Policy: retry.Schedule(50 * time.Millisecond), Source: source}, "")
			var calls callLog
			b.consume(b.p, 2, func(ctx context.Context, d *consumer.Delivery) error {
				calls.note(ctx, d)
				return ends[d.MessageId]()
			})
			for id := range ends {
				b.publish(amqp.Publishing{MessageId: id})
			}
			for _, d := range b.parked(len(ends)) {
				if n := len(calls.of(d.MessageId)); n != 2 || d.Headers[history.HeaderAttempts] != int64(2) || d.Headers[history.HeaderError] == "" {
					t.Errorf("%s: %d calls, parked after %v attempts with %q", d.MessageId, n, d.Headers[history.HeaderAttempts], d.Headers[history.HeaderError])
				}
			}
			kit.WaitFor(t, func() bool { return b.waiting() == 0 })
		})
	}
}

// The log says what happened, after it happened, with one message id.
func TestS81LogLinesAboutAMessageAgree(t *testing.T) {
	log := &journal{}
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(50 * time.Millisecond), Logger: log.logger()}, "")
	if _, err := b.conn.PublishConnection(kit.Within(t, 10*time.Second)); err != nil { // Setup declares the queue for both sessions
		t.Fatal(err)
	}
	w := watched{b.p, make(chan struct{}, 1)}
	b.consume(w, 1, func(context.Context, *consumer.Delivery) error { return errBoom })
	if _, err := b.raw.QueueDelete(b.plan.ParkingQueue(), false, false, false); err != nil {
		t.Fatal(err)
	}
	b.publish(amqp.Publishing{Body: []byte("m")}) // without an id
	kit.Receive(t, w.refused, "refusal")
	kit.Receive(t, w.refused, "refusal")
	if err := b.plan.Declare(kit.Within(t, 10*time.Second), kit.DialRaw(t)); err != nil {
		t.Fatal(err)
	}
	id := b.parked(1)[0].MessageId
	if id == "" {
		t.Error("parked without an id")
	}
	kit.WaitFor(t, func() bool { return len(log.of(id, "parked")) > 0 })
	texts := log.all()
	if all := len(log.of(id, "")); all != len(texts) {
		t.Errorf("%d of %d lines have the id %s", all, len(texts), id)
	}
	for i, text := range texts {
		want := "retry: message not moved, "
		switch i {
		case 0:
			want = "retry: message failed, it waits"
		case 1:
			want = "retry: message not moved, requeued at the tail of its queue"
		case len(texts) - 1:
			want = "retry: message parked"
		}
		if len(text) < len(want) || text[:len(want)] != want {
			t.Errorf("line %d is %q, want %q: %q", i, text, want, texts)
		}
	}
}

// The permissions that docs/retry.md names are enough to declare a plan, to retry and to park, and each of them is needed.
func TestS93APlanWorksWithTheDocumentedPermissions(t *testing.T) {
	t.Parallel()
	queue, user := kit.Unique("retry"), kit.Unique("worker")
	ctl := func(args ...string) {
		t.Helper()
		if out, err := kit.Broker(t).Ctl(kit.Within(t, 20*time.Second), args...); err != nil {
			t.Fatal(err, out)
		}
	}
	ctl("add_user", user, "secret")
	t.Cleanup(func() { _, _ = kit.Broker(t).Ctl(context.Background(), "delete_user", user) })
	own := "^" + queue + `(\.|$)`
	ctl("set_permissions", user, own, "^amq\\.default$", own)
	url := strings.Replace(kit.Broker(t).URL(), "guest:guest", user+":secret", 1)
	b := newRetryBench(t, retry.Config{Queue: queue, Source: &topology.Queue{}, Policy: retry.Schedule(50 * time.Millisecond)}, url)
	b.consume(b.p, 1, func(context.Context, *consumer.Delivery) error { return errBoom })
	b.publish(amqp.Publishing{MessageId: "m"})
	if d := b.parked(1)[0]; d.Headers[history.HeaderAttempts] != int64(2) {
		t.Errorf("parked with %v", d.Headers)
	}
	for name, p := range map[string][]string{
		"configure": {"^$", "^amq\\.default$", own}, "write": {own, "^$", own}, "read": {own, "^amq\\.default$", "^$"},
	} {
		ctl(append([]string{"set_permissions", user}, p...)...)
		plan, err := retry.New(retry.Config{Queue: queue + "." + name, Source: &topology.Queue{}, Policy: retry.Schedule(50 * time.Millisecond)})
		if err != nil {
			t.Fatal(err)
		}
		kit.DeleteAfter(t, plan.Topology())
		ac, err := amqp.Dial(url)
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.Declare(kit.Within(t, 20*time.Second), ac); kit.ReplyCode(err) != amqp.AccessRefused {
			t.Errorf("without the permission to %s: Declare = %v", name, err)
		}
		if err := ac.Close(); err != nil {
			t.Error(err)
		}
	}
	ctl("set_permissions", user, own, "^amq\\.default$", own) // for what the end of the test does
}

package retrying

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// Parked messages that cannot be published stay parked. The others go back, and the error names what stayed, and why.
func TestS76ReplayContinuesPastMessagesThatCannotBePublished(t *testing.T) {
	const good = 6
	for name, rate := range map[string]float64{"at once": 0, "at a rate": 50} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newRetryBench(t, oneTry, "")
			full := kit.Unique("full")
			fullQueue := topology.Topology{Queues: []topology.Queue{{Name: full}}}
			kit.DeleteAfter(t, fullQueue)
			b.fill(full)
			small := kit.NewProducer(t, b.conn, producer.Config{MaxMessageSize: 1000, Logger: slog.New(slog.DiscardHandler)})
			parkingQueue := b.plan.ParkingQueue()
			of := func(queue string) amqp.Table {
				return amqp.Table{history.HeaderQueue: queue, history.HeaderExchange: "", history.HeaderKey: queue}
			}
			var pending []*amqp.DeferredConfirmation
			pending = append(pending,
				b.send(parkingQueue, amqp.Publishing{MessageId: "gone", Headers: of(b.name + ".gone")}),
				b.send(parkingQueue, amqp.Publishing{MessageId: "full", Headers: of(full)}),
				b.send(parkingQueue, amqp.Publishing{MessageId: "large", Headers: of(b.name), Body: make([]byte, 1001)}),
				b.send(parkingQueue, amqp.Publishing{MessageId: "no exchange", Headers: of("no exchange")}),
			)
			for i := range good {
				pending = append(pending, b.send(parkingQueue, amqp.Publishing{MessageId: fmt.Sprint(i), Headers: of(b.name)}))
			}
			b.confirm(pending)
			ctx := kit.Within(t, 30*time.Second)
			cfg := parking.ReplayConfig{Queue: parkingQueue, Rate: rate, To: func(m parking.Message) (string, string) {
				if m.Queue == "no exchange" {
					return b.name + ".x", "k"
				}
				return "", m.Queue
			}}
			want := parking.ReplayResult{Total: good + 4, Replayed: good, Skipped: 4}
			r, err := parking.Replay(ctx, b.conn, small, cfg)
			var skipped *parking.SkippedError
			var returned *producer.ReturnedError
			var field *amqperr.FieldError
			var missing *amqp.Error
			if r != want || !errors.As(err, &skipped) || skipped.Count != 4 || len(skipped.Unwrap()) != 4 || !errors.As(err, &returned) || !errors.As(err, &field) ||
				!errors.Is(err, producer.ErrNacked) || !errors.As(err, &missing) || missing.Code != amqp.NotFound {
				t.Errorf("Replay = %+v, %v, want %+v", r, err, want)
			}
			for _, id := range []string{"gone", "full", "large", "no exchange"} {
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", id)) {
					t.Errorf("%v does not name %q", err, id)
				}
			}
			for i, d := range kit.Take(t, b.name, good) {
				if d.MessageId != fmt.Sprint(i) {
					t.Errorf("message %d is %s", i, d.MessageId)
				}
			}
			// Run again, it tries each once more. A limit counts those that went back.
			b.confirm([]*amqp.DeferredConfirmation{b.send(parkingQueue, amqp.Publishing{MessageId: "late", Headers: of(b.name)})})
			cfg.Limit = 1
			if r, err := parking.Replay(ctx, b.conn, small, cfg); r != (parking.ReplayResult{Total: 5, Replayed: 1, Skipped: 4}) || !errors.As(err, &skipped) {
				t.Errorf("again: %+v, %v", r, err)
			}
			if n := b.ready(parkingQueue); n != 4 {
				t.Errorf("%d are parked still, want 4", n)
			}
		})
	}
}

// A closed Producer ends a replay: no message would fare better.
func TestS76ReplayEndsWithAClosedProducer(t *testing.T) {
	b := newRetryBench(t, oneTry, "")
	b.park(300)
	ctx := kit.Within(t, 30*time.Second)
	closed := kit.NewProducer(t, b.conn, producer.Config{})
	if err := closed.Close(ctx); err != nil {
		t.Fatal(err)
	}
	r, err := parking.Replay(ctx, b.conn, closed, parking.ReplayConfig{Queue: b.plan.ParkingQueue()})
	if !errors.Is(err, producer.ErrClosed) || r.Replayed+r.Skipped != 0 {
		t.Errorf("Replay = %+v, %v", r, err)
	}
	kit.WaitFor(t, func() bool { return b.ready(b.plan.ParkingQueue()) == 300 })
}

// Import continues past what the Producer refuses, and ends where the next line would fail too.
func TestS76ImportContinuesPastMessagesThatTheProducerRefuses(t *testing.T) {
	b := newRetryBench(t, oneTry, "")
	b.confirm([]*amqp.DeferredConfirmation{
		b.send(b.plan.ParkingQueue(), amqp.Publishing{MessageId: "1"}),
		b.send(b.plan.ParkingQueue(), amqp.Publishing{MessageId: "2", Body: make([]byte, 1001)}),
		b.send(b.plan.ParkingQueue(), amqp.Publishing{MessageId: "3"}),
	})
	ctx := kit.Within(t, 30*time.Second)
	var file bytes.Buffer
	if n, err := parking.Export(ctx, b.conn, b.plan.ParkingQueue(), &file); n != 3 || err != nil {
		t.Fatalf("Export = %d, %v", n, err)
	}
	small := kit.NewProducer(t, b.conn, producer.Config{MaxMessageSize: 1000, Logger: slog.New(slog.DiscardHandler)})
	var skipped *parking.SkippedError
	n, err := parking.Import(ctx, small, b.name, bytes.NewReader(file.Bytes()))
	if n != 2 || !errors.As(err, &skipped) || skipped.Count != 1 || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("Import = %d, %v, want two and line 2 skipped", n, err)
	}
	if got := kit.Copies(kit.Take(t, b.name, 2)); got["1"] != 1 || got["3"] != 1 {
		t.Errorf("imported are %v", got)
	}
	var returned *producer.ReturnedError
	if n, err := parking.Import(ctx, small, b.name+".gone", bytes.NewReader(file.Bytes())); n != 0 || !errors.As(err, &returned) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("Import into a missing queue = %d, %v", n, err)
	}
}

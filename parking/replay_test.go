package parking_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

// park has n messages parked, of the bodies 0 to n-1, half of them with the header vip.
func (b *bench) park(n int) {
	b.t.Helper()
	end := b.run(fails(amqperr.Permanent(errBoom)))
	for i := range n {
		b.publish(amqp.Publishing{MessageId: fmt.Sprint(i), Headers: amqp.Table{"vip": i%2 == 0}, Body: fmt.Append(nil, i)})
	}
	if got := len(b.messages("orders.parked", s)); got != n {
		b.t.Fatalf("%d are parked, want %d", got, n)
	}
	end()
}

func (b *bench) replay(c parking.ReplayConfig) (parking.ReplayResult, error) {
	c.Queue, c.Logger = "orders.parked", quiet
	return parking.Replay(b.t.Context(), b.conn, b.producer, c)
}

func bodies(b *bench, queue string) (all []string) {
	synctest.Wait()
	for _, m := range b.Messages(queue) {
		all = append(all, string(m.Body))
	}
	return all
}

func TestReplayBringsBackWhatIsChosenAndLeavesTheRest(t *testing.T) {
	vip := func(m parking.Message) bool { return m.Publishing.Headers["vip"] == true }
	for name, c := range map[string]struct {
		cfg                  parking.ReplayConfig
		want                 parking.ReplayResult
		orders, other, still string
	}{
		"all":         {parking.ReplayConfig{}, parking.ReplayResult{Total: 6, Replayed: 6}, "[0 1 2 3 4 5]", "[]", "[]"},
		"some":        {parking.ReplayConfig{Match: vip}, parking.ReplayResult{Total: 6, Replayed: 3, Kept: 3}, "[0 2 4]", "[]", "[1 3 5]"},
		"by error":    {parking.ReplayConfig{Match: func(m parking.Message) bool { return m.Error != "boom" }}, parking.ReplayResult{Total: 6, Kept: 6}, "[]", "[]", "[0 1 2 3 4 5]"},
		"by age":      {parking.ReplayConfig{Match: func(m parking.Message) bool { return time.Since(m.LastFailure) < time.Hour }}, parking.ReplayResult{Total: 6, Replayed: 6}, "[0 1 2 3 4 5]", "[]", "[]"},
		"a few":       {parking.ReplayConfig{Limit: 2}, parking.ReplayResult{Total: 6, Replayed: 2}, "[0 1]", "[]", "[2 3 4 5]"},
		"two of some": {parking.ReplayConfig{Limit: 2, Match: vip}, parking.ReplayResult{Total: 6, Replayed: 2, Kept: 1}, "[0 2]", "[]", "[1 3 4 5]"},
		"dry":         {parking.ReplayConfig{DryRun: true, Match: vip}, parking.ReplayResult{Total: 6, Replayed: 3, Kept: 3}, "[]", "[]", "[0 1 2 3 4 5]"},
		"elsewhere":   {parking.ReplayConfig{To: func(parking.Message) (string, string) { return "", "other" }}, parking.ReplayResult{Total: 6, Replayed: 6}, "[]", "[0 1 2 3 4 5]", "[]"},
		"nowhere":     {parking.ReplayConfig{To: func(parking.Message) (string, string) { return "", "" }}, parking.ReplayResult{Total: 6, Kept: 6}, "[]", "[]", "[0 1 2 3 4 5]"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *bench) {
				b.onConnection(func(ac *amqp.Connection) error {
					return topology.Topology{Queues: []topology.Queue{{Name: "other"}}}.Declare(b.t.Context(), ac)
				})
				b.park(6)
				got, err := b.replay(c.cfg)
				if err != nil || got != c.want {
					t.Errorf("Replay = %+v, %v, want %+v", got, err, c.want)
				}
				for queue, want := range map[string]string{"orders": c.orders, "other": c.other, "orders.parked": c.still} {
					all := bodies(b, queue)
					if slices.Sort(all); fmt.Sprint(all) != want {
						t.Errorf("%s holds %v, want %s", queue, all, want)
					}
				}
			})
		})
	}
}

func TestAReplayedMessageBeginsAnewWithItsHistory(t *testing.T) {
	bubble(t, func(b *bench) {
		var attempts []int
		end := b.run(func(ctx context.Context, _ *consumer.Delivery) error {
			attempts = append(attempts, retry.Attempt(ctx))
			return errBoom
		})
		b.publish(amqp.Publishing{MessageId: "m", Headers: amqp.Table{"tenant": "a", "CC": []any{"nowhere"}}, Expiration: "3600000", Body: []byte("m")})
		b.parked(time.Minute)
		if _, err := b.replay(parking.ReplayConfig{}); err != nil {
			t.Fatal(err)
		}
		m := b.parked(time.Minute)
		end()
		if !slices.Equal(attempts, []int{1, 2, 1, 2}) {
			t.Errorf("attempts %v, want 1, 2 and again 1, 2", attempts)
		}
		entries, _ := m.Headers[history.HeaderHistory].([]any)
		if len(entries) != 5 || !strings.Contains(fmt.Sprint(entries[2]), "replayed") || m.Headers["tenant"] != "a" ||
			fmt.Sprint(m.Headers[history.HeaderCC]) != "[nowhere]" || m.Headers[history.HeaderExpiration] != "3600000" || m.Headers[history.HeaderKey] != "orders" {
			t.Errorf("parked again with %v", m.Headers)
		}
	})
}

func TestAReplayThatIsInterruptedLosesNothingAndCanBeRunAgain(t *testing.T) {
	for name, interrupt := range map[string]func(b *bench, cancel func()){
		"ctx":        func(_ *bench, cancel func()) { cancel() },
		"connection": func(b *bench, _ func()) { b.DropConnections() },
		"refusal":    func(b *bench, _ func()) { b.NackNext(1) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *bench) {
				const n = 300
				b.park(n)
				ctx, cancel := context.WithCancel(b.t.Context())
				defer cancel()
				batches := 0
				r, err := parking.Replay(ctx, b.conn, b.producer, parking.ReplayConfig{Queue: "orders.parked", Progress: func(parking.ReplayResult) {
					if batches++; batches == 2 {
						interrupt(b, cancel)
					}
				}})
				if err == nil || r.Replayed < 64 || r.Replayed >= n {
					t.Fatalf("Replay = %+v, %v, want an error half way", r, err)
				}
				time.Sleep(time.Minute)
				if name == "refusal" && !errors.Is(err, producer.ErrNacked) {
					t.Errorf("Replay = %v, want ErrNacked", err)
				}
				again, err := b.replay(parking.ReplayConfig{})
				if err != nil || again.Replayed != again.Total {
					t.Errorf("again: %+v, %v", again, err)
				}
				found := map[string]bool{}
				for _, body := range bodies(b, "orders") {
					found[body] = true
				}
				if left := bodies(b, "orders.parked"); len(found) != n || len(left) != 0 {
					t.Errorf("%d of %d are back, %d parked", len(found), n, len(left))
				}
			})
		})
	}
}

// A small frame refuses messages with the header large, as a Producer does on a connection with small frames.
type smallFrame struct{ p *producer.Producer }

type outcome func(context.Context) error

func (o outcome) Wait(ctx context.Context) error { return o(ctx) }

func (f smallFrame) RepublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (outcome, error) {
	return func(context.Context) error {
		if _, large := msg.Headers["large"]; large {
			return fmt.Errorf("%w: %w", producer.ErrNotPublished, &amqperr.FieldError{Field: `Headers["large"]`, Problem: "is too large"})
		}
		return f.p.Republish(ctx, exchange, key, msg)
	}, nil
}

func TestAReplayLeavesOutWhatThePublisherRefuses(t *testing.T) {
	bubble(t, func(b *bench) {
		end := b.run(fails(amqperr.Permanent(errBoom)))
		b.publish(amqp.Publishing{MessageId: "m", Headers: amqp.Table{"large": "x", "small": "s"}})
		b.parked(s)
		end()
		var log bytes.Buffer
		r, err := parking.Replay(b.t.Context(), b.conn, smallFrame{b.producer}, parking.ReplayConfig{
			Queue: "orders.parked", Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil || r.Replayed != 1 {
			t.Fatalf("Replay = %+v, %v", r, err)
		}
		h := b.Messages("orders")[0].Headers
		if text := log.String(); h["small"] != "s" || h["large"] != nil || fmt.Sprint(h[history.HeaderDropped]) != "[large]" || strings.Count(text, "dropped=[large]") != 1 {
			t.Errorf("back with %v, logged %q", h, text)
		}
	})
}

func TestReplayKeepsToItsRateAndTellsItsProgress(t *testing.T) {
	bubble(t, func(b *bench) {
		b.park(200)
		start := time.Now()
		var seen []int
		r, err := b.replay(parking.ReplayConfig{Rate: 50, Progress: func(r parking.ReplayResult) { seen = append(seen, r.Replayed) }})
		took := time.Since(start)
		if err != nil || r.Replayed != 200 || took < 3900*time.Millisecond || took > 4500*time.Millisecond {
			t.Errorf("%+v, %v in %v, want 200 in 4s", r, err, took)
		}
		if len(seen) != 40 || !slices.IsSorted(seen) || seen[0] != 5 || seen[39] != 200 {
			t.Errorf("progress %v", seen)
		}
	})
}

// What is parked again while Replay runs stays, or it would never end.
func TestReplayEndsWhereTheMessagesFailAgain(t *testing.T) {
	bubble(t, func(b *bench) {
		b.park(100)
		b.run(fails(amqperr.Permanent(errBoom)))
		if r, err := b.replay(parking.ReplayConfig{Rate: 100}); err != nil || r.Replayed != 100 {
			t.Errorf("Replay = %+v, %v", r, err)
		}
		if n := len(b.messages("orders.parked", s)); n != 100 {
			t.Errorf("%d are parked, want 100", n)
		}
	})
}

func TestPeekAndExportLeaveMessagesWhereTheyAre(t *testing.T) {
	bubble(t, func(b *bench) {
		b.park(3)
		for range 25 {
			ms, err := parking.Peek(b.t.Context(), b.conn, "orders.parked", 2)
			if err != nil || len(ms) != 2 {
				t.Fatalf("Peek = %v, %v", ms, err)
			}
			m := ms[0]
			if m.Queue != "orders" || m.Key != "orders" || m.Attempts != 1 || m.Error != "boom" || m.Reason != history.ReasonPermanent || m.FirstFailure.IsZero() || len(m.History) != 1 {
				t.Fatalf("%+v", m)
			}
			if n, err := parking.Export(b.t.Context(), b.conn, "orders.parked", new(bytes.Buffer)); err != nil || n != 3 {
				t.Fatalf("Export = %d, %v", n, err)
			}
		}
		got := bodies(b, "orders.parked")
		if slices.Sort(got); !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("after 50 looks there are %v", got)
		}
	})
}

func TestImportMakesWhatWasExported(t *testing.T) {
	bubble(t, func(b *bench) {
		headers := amqp.Table{
			"nil": nil, "bool": true, "string": "é", "raw": "\xff", "bytes": []byte{0, 255}, "int8": int8(-1), "uint8": uint8(1), "int16": int16(-2), "uint16": uint16(2),
			"int32": int32(-3), "uint32": uint32(3), "int64": int64(1)<<62 + 1, "float32": float32(1.5), "float64": 0.1, "time": time.Unix(1_700_000_000, 0),
			"decimal": amqp.Decimal{Scale: 2, Value: 314}, "table": amqp.Table{"list": []any{int32(1), amqp.Table{}, []any{}}},
		}
		end := b.run(fails(amqperr.Permanent(errBoom)))
		// Publish refuses types that some clients cannot read; another client may have sent them.
		msg := amqp.Publishing{Headers: headers, MessageId: "m", ContentType: "text/plain", DeliveryMode: amqp.Persistent, Priority: 2, Timestamp: time.Unix(1_700_000_000, 0), Type: "t", Body: []byte{0, 255, '\n'}}
		if err := b.producer.Republish(b.t.Context(), "", "orders", msg); err != nil {
			b.t.Fatal(err)
		}
		before := b.parked(s)
		end()
		var file bytes.Buffer
		if n, err := parking.Export(b.t.Context(), b.conn, "orders.parked", &file); n != 1 || err != nil {
			t.Fatalf("Export = %d, %v", n, err)
		}
		if lines := strings.Count(file.String(), "\n"); lines != 1 {
			t.Errorf("%d lines, want 1", lines)
		}
		b.onConnection(func(ac *amqp.Connection) error {
			ch, err := ac.Channel()
			if err != nil {
				return err
			}
			_, err = ch.QueuePurge("orders.parked", false)
			return errors.Join(err, ch.Close())
		})
		if n, err := parking.Import(b.t.Context(), b.producer, "orders.parked", &file); n != 1 || err != nil {
			t.Fatalf("Import = %d, %v", n, err)
		}
		after := b.parked(s)
		after.Redelivered = before.Redelivered
		delete(before.Headers, "x-delivery-count")
		if !reflect.DeepEqual(before, after) {
			t.Errorf("imported %+v, want %+v", after, before)
		}
		if n, err := parking.Import(b.t.Context(), b.producer, "orders.parked", strings.NewReader("{}\n{\"priority\":\"uint8:300\"}\n")); n != 1 || err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("Import of a bad line = %d, %v", n, err)
		}
	})
}

// RabbitMQ dead-letters the message without the middleware, and records its queue.
func TestReplayKnowsWhereADeadLetterCameFrom(t *testing.T) {
	bubble(t, func(b *bench) {
		b.publish(amqp.Publishing{MessageId: "m", UserId: "guest", Body: []byte("m")})
		d, _, err := consumer.Get(b.t.Context(), b.conn, "orders")
		if err == nil {
			err = d.Reject(false)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(s)
		ms, err := parking.Peek(b.t.Context(), b.conn, "orders.parked", 1)
		if err != nil || len(ms) != 1 || ms[0].Queue != "orders" || ms[0].Key != "orders" || ms[0].Reason != "rejected" {
			t.Fatalf("Peek = %+v, %v", ms, err)
		}
		if r, err := b.replay(parking.ReplayConfig{}); err != nil || r.Replayed != 1 {
			t.Errorf("Replay = %+v, %v", r, err)
		}
		if got := bodies(b, "orders"); !slices.Equal(got, []string{"m"}) {
			t.Errorf("back are %v", got)
		}
		if m := b.Messages("orders")[0]; m.UserID != "" || m.Headers[history.HeaderUserID] != "guest" {
			t.Errorf("it has the user id %q, which another user may not publish", m.UserID)
		}
	})
}

func TestScansRefuseInvalidConfigs(t *testing.T) {
	bubble(t, func(b *bench) {
		for name, c := range map[string]struct {
			call func() error
			want string
		}{
			"Peek": {func() error {
				_, err := parking.Peek(b.t.Context(), nil, "", -1)
				return err
			}, "[queue n]"},
			"Peek below zero": {func() error {
				_, err := parking.Peek(b.t.Context(), nil, "orders.parked", -1)
				return err
			}, "[n]"},
			"Export": {func() error {
				_, err := parking.Export(b.t.Context(), nil, "q\n", io.Discard)
				return err
			}, "[queue]"},
			"Import": {func() error {
				_, err := parking.Import(b.t.Context(), b.producer, "", strings.NewReader(""))
				return err
			}, "[queue]"},
			"Replay": {func() error {
				_, err := parking.Replay(b.t.Context(), nil, b.producer, parking.ReplayConfig{Limit: -1, Rate: -1})
				return err
			}, "[Queue Limit Rate]"},
		} {
			var got []string
			err := c.call()
			for _, f := range fieldErrors(err) {
				got = append(got, f.Field)
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("%s = %v, want faults in %s", name, err, c.want)
			}
		}
		if _, err := parking.Peek(b.t.Context(), b.conn, "missing", 1); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("Peek = %v", err)
		}
	})
}

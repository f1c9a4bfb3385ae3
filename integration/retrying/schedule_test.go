package retrying

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

func TestS65APoisonBodyIsTriedAsOftenAndWhenThePolicySaysThenParkedByteIdentical(t *testing.T) {
	delays := []time.Duration{200 * time.Millisecond, 600 * time.Millisecond, 400 * time.Millisecond}
	for name, cfg := range map[string]retry.Config{
		"wait queues":                {Policy: retry.Schedule(delays...)},
		"in the process":             {Policy: retry.Schedule(delays...), MaxInProcessDelay: time.Second},
		"both":                       {Policy: retry.Schedule(delays...), MaxInProcessDelay: 300 * time.Millisecond},
		"of a classic queue":         {Policy: retry.Schedule(delays...), Source: &topology.Queue{Type: topology.Classic}},
		"with a delivery limit of 0": {Policy: retry.Schedule(delays...), Source: &topology.Queue{DeliveryLimit: new(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newRetryBench(t, cfg, "")
			stalled := kit.SchedulingDelay(t)
			var log callLog
			b.start(20, log.fail)
			sent := map[string]amqp.Publishing{}
			for i := range 20 {
				body := make([]byte, 1000)
				_, _ = rand.Read(body)
				m := amqp.Publishing{
					Headers: amqp.Table{"tenant": "a", "x-death": "forged"}, ContentType: "application/octet-stream", DeliveryMode: amqp.Persistent, Priority: 1,
					CorrelationId: "c", MessageId: fmt.Sprint(i), Timestamp: time.Unix(1_700_000_000, 0), Type: "poison", AppId: "test", Body: body,
				}
				sent[m.MessageId] = m
				b.publish(m)
			}
			var worst time.Duration
			for _, d := range b.parked(20) {
				calls := log.of(d.MessageId)
				if len(calls) != 4 {
					t.Fatalf("message %s: %d calls, want 4", d.MessageId, len(calls))
				}
				for i, delay := range delays {
					gap := calls[i+1].at.Sub(calls[i].at)
					if gap < delay-time.Millisecond || gap > delay+delay/10+100*time.Millisecond+stalled() {
						t.Errorf("message %s: attempt %d came after %v, want %v", d.MessageId, i+2, gap, delay)
					}
					worst = max(worst, gap-delay)
				}
				m := sent[d.MessageId]
				if !bytes.Equal(d.Body, m.Body) || d.ContentType != m.ContentType || d.DeliveryMode != m.DeliveryMode || d.Priority != m.Priority || d.CorrelationId != m.CorrelationId ||
					!d.Timestamp.Equal(m.Timestamp) || d.Type != m.Type || d.AppId != m.AppId || d.Headers["tenant"] != "a" {
					t.Errorf("message %s is not the original: %+v", d.MessageId, d)
				}
				for header, want := range map[string]any{
					history.HeaderAttempts: int64(4), history.HeaderError: "attempt 4: boom", history.HeaderErrorType: "*fmt.wrapError", history.HeaderReason: history.ReasonAttempts,
					history.HeaderQueue: b.name, history.HeaderExchange: "", history.HeaderKey: b.name,
					"x-death": nil, "x-delivery-count": nil, "x-acquired-count": nil, "x-first-death-queue": nil, "x-last-death-queue": nil,
				} {
					if !reflect.DeepEqual(d.Headers[header], want) {
						t.Errorf("header %s is %#v, want %#v", header, d.Headers[header], want)
					}
				}
				if entries, _ := d.Headers[history.HeaderHistory].([]any); len(entries) != 4 {
					t.Errorf("history %q, want 4 entries", entries)
				}
			}
			if n := b.waiting(); n != 0 {
				t.Errorf("%d messages are left", n)
			}
			t.Logf("20 messages, 4 calls each; the latest was %v behind its delay, the machine stood still for %v", worst.Round(time.Millisecond), stalled().Round(time.Millisecond))
		})
	}
}

// RabbitMQ drops what goes round by expiry alone; each round here begins with a publish.
func TestS41ManyRoundsThroughAWaitQueueLoseNothing(t *testing.T) {
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(50 * time.Millisecond).MaxAttempts(41)}, "")
	var log callLog
	b.start(1, log.fail)
	b.publish(amqp.Publishing{MessageId: "m"})
	d := b.parked(1)[0]
	if calls := log.of("m"); len(calls) != 41 || calls[40].attempt != 41 || d.Headers[history.HeaderAttempts] != int64(41) {
		t.Errorf("%d calls and %v attempts, want 41", len(calls), d.Headers[history.HeaderAttempts])
	}
}

func TestS40AShortDelayDoesNotWaitForALongOneNorAGoodMessageForEither(t *testing.T) {
	long := retry.Schedule(time.Minute)
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(300 * time.Millisecond), Rules: []retry.Rule{retry.OnError(errNotYet, long)}}, "")
	var log callLog
	done := make(chan time.Time, 20)
	b.start(1, func(ctx context.Context, d *consumer.Delivery) error {
		switch d.Type {
		case "long":
			return errNotYet
		case "short":
			return log.fail(ctx, d)
		}
		done <- time.Now()
		return nil
	})
	for i := range 20 {
		b.publish(amqp.Publishing{Type: "long"}, amqp.Publishing{Type: "short", MessageId: fmt.Sprint(i)})
	}
	start := time.Now()
	b.publish(amqp.Publishing{Type: "good"})
	good := kit.Receive(t, done, "good message").Sub(start)
	if good > 250*time.Millisecond { // one worker, and forty messages failing before it
		t.Errorf("a good message waited %v behind failed ones", good)
	}
	var gaps []time.Duration
	for _, d := range b.parked(20) {
		calls := log.of(d.MessageId)
		gaps = append(gaps, calls[1].at.Sub(calls[0].at))
	}
	if last := slices.Max(gaps); last > 300*time.Millisecond+130*time.Millisecond {
		t.Errorf("a delay of 300 ms took %v", last)
	}
	if n := b.waiting(); n != 20 {
		t.Errorf("%d messages wait for their minute, want 20", n)
	}
	t.Logf("the good message took %v, delays of 300 ms %v to %v", good, slices.Min(gaps), slices.Max(gaps))
}

var errNotYet = errors.New("not yet")

func TestS42ForgedCountsNeverExceedThePolicy(t *testing.T) {
	b := newRetryBench(t, retry.Config{Policy: retry.Schedule(100 * time.Millisecond)}, "")
	var log callLog
	b.start(4, log.fail)
	b.publish(
		amqp.Publishing{MessageId: "death", Headers: amqp.Table{"x-delivery-count": int64(50), "x-acquired-count": int64(50), "x-death": []any{amqp.Table{"count": int64(50), "queue": b.name, "reason": "rejected"}}}},
		amqp.Publishing{MessageId: "reset", Headers: amqp.Table{history.HeaderQueue: b.name, history.HeaderAttempts: int64(-7)}},
		amqp.Publishing{MessageId: "spent", Headers: amqp.Table{history.HeaderQueue: b.name, history.HeaderAttempts: int64(7)}},
	)
	b.parked(3)
	for id, want := range map[string]int{"death": 2, "reset": 2, "spent": 0} {
		if calls := log.of(id); len(calls) != want {
			t.Errorf("%s: %d calls, want %d", id, len(calls), want)
		}
	}
}

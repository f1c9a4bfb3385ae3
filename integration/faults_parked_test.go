package integration

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/parking"
)

func TestS66AnUnreadableParkedMessageStaysAndTheOthersAreReplayed(t *testing.T) {
	for name, headers := range map[string]amqp.Table{"nested": nestedHeaders(), "many": manyHeaders()} {
		t.Run(name, func(t *testing.T) {
			b := newRetryBench(t, oneTry, "")
			parkingQueue := b.plan.ParkingQueue()
			b.park(5)
			b.confirm([]*amqp.DeferredConfirmation{b.send(parkingQueue, amqp.Publishing{MessageId: "poison", DeliveryMode: amqp.Persistent, Headers: headers})})
			b.park(6)
			ctx := within(t, 30*time.Second)
			shared, err := b.conn.ConsumeConnection(ctx)
			if err != nil {
				t.Fatal(err)
			}
			named := func(what string, err error) {
				t.Helper()
				var unreadable *consumer.UnreadableError
				if !errors.As(err, &unreadable) || unreadable.MessageID != "poison" {
					t.Errorf("%s: %v, want an UnreadableError that names the message", what, err)
				}
			}
			shown, err := parking.Peek(ctx, b.conn, parkingQueue, 100)
			if named("Peek", err); len(shown) != 11 {
				t.Errorf("Peek returned %d of 11 messages", len(shown))
			}
			var file bytes.Buffer
			n, err := parking.Export(ctx, b.conn, parkingQueue, &file)
			if named("Export", err); n != 11 || strings.Count(file.String(), "\n") != 11 {
				t.Errorf("Export wrote %d of 11 messages", n)
			}
			r, err := parking.Replay(ctx, b.conn, b.p, parking.ReplayConfig{Queue: parkingQueue})
			if named("Replay", err); r != (parking.ReplayResult{Total: 12, Replayed: 11, Skipped: 1}) {
				t.Errorf("Replay = %+v", r)
			}
			waitFor(t, func() bool { return b.ready(b.name) == 11 && b.ready(parkingQueue) == 1 })
			if shared.IsClosed() {
				t.Error("the shared connection was lost")
			}
		})
	}
}

func TestS66WhatIsParkedBeforeAMessageThatRabbitMQCannotDeliverIsReplayed(t *testing.T) {
	b := newRetryBench(t, oneTry, "")
	parkingQueue := b.plan.ParkingQueue()
	b.park(5)
	publish10(t, broker(t).URL(), parkingQueue, "poison", uuidProperty)
	b.park(6)
	ctx := within(t, 30*time.Second)
	shared, err := b.conn.ConsumeConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	blocked := func(what string, err error) {
		t.Helper()
		var e *parking.BlockedError
		if !errors.As(err, &e) || e.Queue != parkingQueue || !strings.Contains(err.Error(), "AMQP 1.0 client") {
			t.Errorf("%s: %v, want a BlockedError that names the queue and the cure", what, err)
		}
	}
	const reached, kept = 5, 1
	shown, err := parking.Peek(ctx, b.conn, parkingQueue, 100)
	if blocked("Peek", err); len(shown) != reached {
		t.Errorf("Peek returned %d messages, want %d", len(shown), reached)
	}
	n, err := parking.Export(ctx, b.conn, parkingQueue, new(bytes.Buffer))
	if blocked("Export", err); n != reached {
		t.Errorf("Export wrote %d messages, want %d", n, reached)
	}
	r, err := parking.Replay(ctx, b.conn, b.p, parking.ReplayConfig{Queue: parkingQueue, Match: func(m parking.Message) bool { return m.Publishing.MessageId != "1" }})
	if blocked("Replay", err); r.Replayed != reached-kept || r.Kept != kept {
		t.Errorf("Replay = %+v, want %d replayed and %d kept", r, reached-kept, kept)
	}
	waitFor(t, func() bool { return b.ready(b.name) == reached-kept && b.ready(parkingQueue) == 12-(reached-kept) })
	var ids []string
	for _, d := range take(t, b.name, reached-kept) {
		ids = append(ids, d.MessageId)
	}
	if slices.Contains(ids, "poison") || slices.Contains(ids, "1") {
		t.Errorf("replayed were %v", ids)
	}
	if shared.IsClosed() {
		t.Error("the shared connection was lost")
	}
}

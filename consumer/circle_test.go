package consumer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
)

func TestMessageRequeuedAtOnceDoesNotCycleAtFullSpeed(t *testing.T) {
	reason := errors.New("not my shard")
	unreadable := amqp.Table{}
	for range 40 {
		unreadable = amqp.Table{"t": unreadable}
	}
	const (
		circle  = "circle"  // its dead-letter exchange routes to itself
		classic = "classic" // does not count deliveries
		endless = "endless" // has no delivery limit
	)
	for name, c := range map[string]struct {
		result error
		most   int // bytes of a message
		header amqp.Table
		queue  string
		named  string // in the log
	}{
		"requeued at once":              {result: consumer.Requeue(0, reason), queue: "orders", named: reason.Error()},
		"requeued before now":           {result: consumer.Requeue(-time.Hour, reason), queue: "orders", named: reason.Error()},
		"requeued almost at once":       {result: consumer.Requeue(1), queue: "orders", named: "requeued after 1ns"},
		"failed, classic":               {result: consumer.RejectRequeue(reason), queue: classic, named: reason.Error()},
		"failed, without a limit":       {result: consumer.RejectRequeue(reason), queue: endless, named: reason.Error()},
		"rejected into its queue":       {result: consumer.Reject(reason), queue: circle, named: reason.Error()},
		"too large, into its own queue": {most: 1, queue: circle, named: "MaxBodySize"},
		"unreadable, into its queue":    {header: unreadable, queue: circle, named: "unreadable message rejected"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.onChannel(func(ch *amqp.Channel) error {
					for queue, args := range map[string]amqp.Table{
						circle:  {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": circle},
						classic: {"x-queue-type": "classic"},
						endless: {"x-queue-type": "quorum", "x-delivery-limit": -1},
					} {
						if _, err := ch.QueueDeclare(queue, true, false, false, false, args); err != nil {
							return err
						}
					}
					return ch.Publish("", c.queue, false, false, amqp.Publishing{Headers: c.header, Body: []byte("large")})
				})
				var delivered atomic.Int64
				var log bytes.Buffer
				cons, err := consumer.New(b.conn, consumer.Config{
					Queue: c.queue, MaxBodySize: c.most, HasDeadLetterExchange: true, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				}, func(context.Context, *consumer.Delivery) error {
					delivered.Add(1)
					return c.result
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, end := context.WithTimeout(t.Context(), 7*time.Second)
				defer end()
				if err := cons.Run(ctx); err != nil {
					t.Errorf("Run = %v", err)
				}
				n := int(delivered.Load())
				if c.most > 0 {
					n = strings.Count(log.String(), "larger than")
				}
				if c.header != nil {
					n = strings.Count(log.String(), "unreadable message rejected")
				}
				if n < 70 || n > 110 {
					t.Errorf("%d deliveries in 7 s, want 70 to 110", n)
				}
				if warned := strings.Count(log.String(), "as soon as they are delivered"); warned != 1 {
					t.Errorf("%d warnings, want 1\n%s", warned, &log)
				}
				if !strings.Contains(log.String(), c.named) {
					t.Errorf("the log does not name %q", c.named)
				}
			})
		})
	}
}

func TestHoldBeyondTheConsumerTimeoutIsLogged(t *testing.T) {
	for d, c := range map[time.Duration]struct {
		arguments amqp.Table
		warned    int
	}{
		time.Minute:      {warned: 0},
		30 * time.Minute: {warned: 1},
		1<<63 - 1:        {warned: 1},
		2 * time.Second:  {amqp.Table{"x-consumer-timeout": 1500}, 1},
		31 * time.Minute: {amqp.Table{"x-consumer-timeout": int64(time.Hour / time.Millisecond)}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			var log bytes.Buffer
			cons, err := consumer.New(b.conn, consumer.Config{Queue: "orders", Arguments: c.arguments, Logger: slog.New(slog.NewTextHandler(&log, nil))},
				func(context.Context, *consumer.Delivery) error { return consumer.Requeue(d) })
			if err != nil {
				t.Fatal(err)
			}
			b.publish("1", "2")
			ctx, end := context.WithTimeout(t.Context(), time.Second)
			defer end()
			if err := cons.Run(ctx); err != nil {
				t.Errorf("Run = %v", err)
			}
			if n := strings.Count(log.String(), "longer than the consumer timeout"); n != c.warned {
				t.Errorf("Requeue(%v) with %v: %d warnings, want %d", d, c.arguments, n, c.warned)
			}
		})
	}
}

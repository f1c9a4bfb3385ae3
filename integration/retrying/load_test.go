package retrying

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
)

// What a retry costs is printed: docs/retry.md tells the order of magnitude.
func TestALoadOfFailingMessagesIsHandledTwiceEach(t *testing.T) {
	const messages = 5000
	var rates [2]float64
	for i, failing := range []bool{false, true} {
		b := newRetryBench(t, retry.Config{Policy: retry.Schedule(100 * time.Millisecond)}, "")
		msgs := make([]producer.Message, messages)
		for i := range msgs {
			msgs[i] = producer.Message{Key: b.name, Publishing: amqp.Publishing{MessageId: strconv.Itoa(i), Body: make([]byte, 1024)}}
		}
		for _, err := range b.p.PublishAll(kit.Within(t, time.Minute), msgs) {
			if err != nil {
				t.Fatal(err)
			}
		}
		var first, second atomic.Int64
		done := make(chan struct{}, messages)
		began := time.Now()
		end := b.start(64, func(ctx context.Context, _ *consumer.Delivery) error {
			if failing && retry.Attempt(ctx) == 1 {
				first.Add(1)
				return errBoom
			}
			second.Add(1)
			done <- struct{}{}
			return nil
		})
		for range messages {
			kit.Receive(t, done, "handled message")
		}
		rates[i] = messages / time.Since(began).Seconds()
		end()
		if failing && first.Load() != messages || second.Load() != messages || b.waiting() != 0 {
			t.Errorf("%d first and %d last attempts at %d messages, %d are left", first.Load(), second.Load(), messages, b.waiting())
		}
	}
	fmt.Printf("%d messages of 1 KiB, 64 workers: handled once %.0f/s; failed once, waited in a queue and handled again %.0f/s\n", messages, rates[0], rates[1])
}

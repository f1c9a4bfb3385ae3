package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
)

func TestS75TheLogNamesAMessageWhenItsLastDeliveryFails(t *testing.T) {
	t.Parallel()
	b := newConsumerBench(t)
	results := map[string]error{"it fails": consumer.RejectRequeue(errors.New("out of order"))}
	if !b.broker.AtLeast(4, 3) {
		results["it is postponed, which RabbitMQ counts before 4.3"] = consumer.Requeue(time.Millisecond)
	}
	for name, result := range results {
		t.Run(name, func(t *testing.T) {
			queue := b.queue(nil)
			var log logbook
			deliveries := make(chan int, 100)
			begin := func(cfg consumer.Config) *running {
				cfg.Queue, cfg.Logger = queue, log.logger()
				return b.start(cfg, func(_ context.Context, d *consumer.Delivery) error {
					n, _ := d.Headers["x-delivery-count"].(int64)
					deliveries <- int(n)
					if n == 19 && log.count("last delivery") > 0 {
						t.Error("warned too early")
					}
					return result
				})
			}
			for _, deadLettered := range []bool{true, false} {
				r := begin(consumer.Config{HasDeadLetterExchange: deadLettered})
				b.publish(queue, "poor-message")
				for i := range 21 {
					if n := receive(t, deliveries, "delivery"); n != i {
						t.Fatalf("delivery %d has the count %d", i+1, n)
					}
				}
				b.expectLeft(queue, 0)
				r.stopClean()
				want := 1
				if deadLettered {
					want = 0
				}
				if n := log.count("last delivery"); n != want {
					t.Errorf("HasDeadLetterExchange %v: warned %d times, want %d\n%s", deadLettered, n, want, &log)
				}
			}
			if log.count("message_id=poor-message delivery_count=20") != 1 {
				t.Errorf("the log does not name the message:\n%s", &log)
			}
		})
	}
}

package consuming

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestS75TheLogNamesAMessageWhenItsLastDeliveryFails(t *testing.T) {
	t.Parallel()
	b := kit.NewConsumerBench(t)
	results := map[string]error{"it fails": consumer.RejectRequeue(errors.New("out of order"))}
	if !b.Broker.AtLeast(4, 3) {
		results["it is postponed, which RabbitMQ counts before 4.3"] = consumer.Requeue(time.Millisecond)
	}
	for name, result := range results {
		t.Run(name, func(t *testing.T) {
			queue := b.Queue(nil)
			var log kit.Logbook
			deliveries := make(chan int, 100)
			begin := func(cfg consumer.Config) *kit.Running {
				cfg.Queue, cfg.Logger = queue, log.Logger()
				return b.Start(cfg, func(_ context.Context, d *consumer.Delivery) error {
					n, _ := d.Headers["x-delivery-count"].(int64)
					deliveries <- int(n)
					if n == 19 && log.Count("last delivery") > 0 {
						t.Error("warned too early")
					}
					return result
				})
			}
			for _, deadLettered := range []bool{true, false} {
				r := begin(consumer.Config{HasDeadLetterExchange: deadLettered})
				b.Publish(queue, "poor-message")
				for i := range 21 {
					if n := kit.Receive(t, deliveries, "delivery"); n != i {
						t.Fatalf("delivery %d has the count %d", i+1, n)
					}
				}
				b.ExpectLeft(queue, 0)
				r.StopClean()
				want := 1
				if deadLettered {
					want = 0
				}
				if n := log.Count("last delivery"); n != want {
					t.Errorf("HasDeadLetterExchange %v: warned %d times, want %d\n%s", deadLettered, n, want, &log)
				}
			}
			if log.Count("message_id=poor-message delivery_count=20") != 1 {
				t.Errorf("the log does not name the message:\n%s", &log)
			}
		})
	}
}

package consuming

import (
	"context"
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestAStreamIsReadOnWhereTheLossLeftIt(t *testing.T) {
	for _, offset := range []any{"first", "next", int64(2)} {
		t.Run(fmt.Sprint(offset), func(t *testing.T) {
			b := kit.NewConsumerBench(t)
			queue := b.Name()
			b.Declare(queue, "stream", nil)
			if offset != "next" {
				b.Publish(queue, kit.Numbers(10)...)
			}
			subscribe := make(chan struct{})
			got := make(chan string, 100)
			release := make(chan struct{})
			r := b.Begin(consumer.Config{
				Queue: queue, Prefetch: 5, Arguments: amqp.Table{"x-stream-offset": offset},
				Declare: func(context.Context, *amqp.Connection) (string, error) { <-subscribe; return "", nil },
			}, func(_ context.Context, d *consumer.Delivery) error {
				got <- string(d.Body)
				if string(d.Body) == "7" {
					<-release
				}
				return nil
			})
			subscribe <- struct{}{}
			if err := r.Ready(b.Ctx()); err != nil {
				t.Fatal(err)
			}
			first := 0
			switch offset {
			case "next":
				b.Publish(queue, kit.Numbers(10)...)
			case int64(2):
				first = 2
			}
			for i := first; i <= 7; i++ {
				if m := kit.Receive(t, got, "message"); m != fmt.Sprint(i) {
					t.Fatalf("got %s, want %d", m, i)
				}
			}
			b.Cut()                // with 7 in its handler, and what is behind it delivered or not
			b.Publish(queue, "10") // while nobody consumes
			subscribe <- struct{}{}
			close(release) // too late: 7 comes again, and 6 does not, which one worker settled before
			for i := 7; i <= 10; i++ {
				if m := kit.Receive(t, got, "message"); m != fmt.Sprint(i) {
					t.Fatalf("got %s after the loss, want %d", m, i)
				}
			}
			r.StopClean()
		})
	}
}

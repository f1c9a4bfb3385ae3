package kit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/producer"
)

// Through returns a proxy in front of the shared broker, and a Conn over it.
func Through(t *testing.T, cfg amqpkit.Config) (*amqptest.Proxy, *amqpkit.Conn) {
	t.Helper()
	proxy := amqptest.StartProxy(t, Broker(t).URL())
	cfg.URLs = []string{proxy.URL()}
	return proxy, Connect(t, cfg)
}

// Kind returns a match function for Proxy.Next that selects the events of a kind.
func Kind(k amqptest.Kind) func(amqptest.Event) bool {
	return func(e amqptest.Event) bool { return e.Kind == k }
}

// Purged purges a queue and returns the number of its messages. The count of a passive declaration may be outdated.
func Purged(t *testing.T, queue string) int {
	t.Helper()
	n, err := RawChannel(t).QueuePurge(queue, false)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Drained removes and returns all messages of a queue, in order.
func Drained(t *testing.T, ch *amqp.Channel, queue string) []amqp.Delivery {
	t.Helper()
	var all []amqp.Delivery
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, d)
	}
}

// Copies returns the number of messages for each message id.
func Copies(ds []amqp.Delivery) map[string]int {
	n := map[string]int{}
	for _, d := range ds {
		n[d.MessageId]++
	}
	return n
}

// Soon is the maximum time from the end of a ctx to the return of the call.
const Soon = 250 * time.Millisecond

// ReplyCode returns the AMQP reply code in err, or 0.
func ReplyCode(err error) int {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// A Stream publishes messages in sequence, each after the confirm of the previous one.
type Stream struct {
	halt      chan struct{}
	ended     chan struct{}
	confirmed []string
}

// StartStream starts a Stream. The bodies consist of the prefix and a number. The test fails if a message is not confirmed
// before ctx ends.
func StartStream(ctx context.Context, t *testing.T, p *producer.Producer, queue, prefix string) *Stream {
	t.Helper()
	s := &Stream{halt: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		for n, last := 0, false; !last; n++ {
			select {
			case <-s.halt:
				last = true
			case <-ctx.Done():
				return
			default:
			}
			body := fmt.Sprint(prefix, " ", n)
			if err := p.Publish(ctx, "", queue, amqp.Publishing{Body: []byte(body)}); err != nil {
				t.Errorf("publish %q: %v", body, err)
				return
			}
			s.confirmed = append(s.confirmed, body)
		}
	}()
	t.Cleanup(func() { <-s.ended }) // t.Context is cancelled before cleanup
	return s
}

// Stop publishes one more message and returns the bodies of all messages.
func (s *Stream) Stop() []string {
	close(s.halt)
	<-s.ended
	return s.confirmed
}

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

// Kind matches the events of a kind, for Proxy.Next.
func Kind(k amqptest.Kind) func(amqptest.Event) bool {
	return func(e amqptest.Event) bool { return e.Kind == k }
}

// Purged empties a queue and returns how many messages it held: a passive declaration's count lags.
func Purged(t *testing.T, queue string) int {
	t.Helper()
	n, err := RawChannel(t).QueuePurge(queue, false)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Drained empties a queue and returns what it held, in order.
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

// Copies counts messages by their ids.
func Copies(ds []amqp.Delivery) map[string]int {
	n := map[string]int{}
	for _, d := range ds {
		n[d.MessageId]++
	}
	return n
}

// Soon is how long a call may outlast its ctx.
const Soon = 250 * time.Millisecond

// ReplyCode returns the reply code in err, or 0.
func ReplyCode(err error) int {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// A Stream publishes one message after the other until it is stopped, and after that one more.
type Stream struct {
	halt      chan struct{}
	ended     chan struct{}
	confirmed []string
}

// StartStream starts one whose bodies are the prefix and a number. Whatever happens to the broker, each
// message is to be confirmed before ctx ends.
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
	t.Cleanup(func() { <-s.ended }) // ctx is the test's: it has ended by then
	return s
}

// Stop publishes one message more and returns all bodies.
func (s *Stream) Stop() []string {
	close(s.halt)
	<-s.ended
	return s.confirmed
}

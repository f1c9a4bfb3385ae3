package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
)

// A gate lets one subscribe through at a time, or refuses it.
type gate chan error

func (g gate) declare(context.Context, *amqp.Connection) (string, error) { return "", <-g }

func TestS67AStreamsPositionSurvivesRefusals(t *testing.T) {
	t.Parallel()
	for _, offset := range []any{"first", "next", int64(0)} {
		t.Run(fmt.Sprint(offset), func(t *testing.T) {
			t.Parallel()
			b := newConsumerBench(t)
			queue := b.name()
			b.declare(queue, "stream", nil)
			if offset == "next" {
				b.publish(queue, "before")
			}
			subscribe := make(gate)
			got := make(chan string, 100)
			r := b.begin(consumer.Config{
				Queue: queue, Prefetch: 1, Declare: subscribe.declare, Arguments: amqp.Table{"x-stream-offset": offset},
			}, bodies(got))
			subscribe <- nil
			if err := r.Ready(b.ctx()); err != nil {
				t.Fatal(err)
			}
			b.publish(queue, numbers(5)...)
			expect := func(from, to int) {
				t.Helper()
				m := receive(t, got, "message")
				if m == fmt.Sprint(from-1) { // which was not settled yet when the connection was lost
					m = receive(t, got, "message")
				}
				for i := from; i < to; i++ {
					if m != fmt.Sprint(i) {
						t.Fatalf("got %q, want %d", m, i)
					}
					if i+1 < to {
						m = receive(t, got, "message")
					}
				}
			}
			expect(0, 5)
			b.cut()
			b.publish(queue, numbers(10)[5:]...)
			for _, err := range []error{
				&amqp.Error{Code: 403, Reason: "ACCESS_REFUSED - read access refused", Server: true},
				&amqp.Error{Code: 404, Reason: "NOT_FOUND - no queue 'q' in vhost '/'", Server: true},
				errors.New("not this time"),
			} {
				subscribe <- err
			}
			subscribe <- nil
			expect(5, 10)
			r.stopClean()
			if len(got) > 0 {
				t.Errorf("%q was delivered again", <-got)
			}
		})
	}
}

func TestS67AStreamsPositionSurvivesAPermissionThatIsMissingForAMoment(t *testing.T) {
	t.Parallel()
	broker := needsControl(t)
	user := unique("s67")
	ctl := func(args ...string) {
		t.Helper()
		if _, err := broker.Ctl(within(t, consumerPatience), args...); err != nil {
			t.Fatal(err)
		}
	}
	ctl("add_user", user, "secret")
	t.Cleanup(func() { _, _ = broker.Ctl(context.Background(), "delete_user", user) })
	ctl("set_permissions", user, ".*", ".*", ".*")
	url := strings.Replace(broker.URL(), "guest:guest", user+":secret", 1)
	b := newConsumerBenchThrough(t, url)
	queue := b.name()
	b.declare(queue, "stream", nil)
	b.publish(queue, numbers(5)...)
	subscribe := make(gate, 10)
	got := make(chan string, 100)
	r := b.begin(consumer.Config{
		Queue: queue, Prefetch: 1, Declare: subscribe.declare, Arguments: amqp.Table{"x-stream-offset": "first"},
	}, bodies(got))
	subscribe <- nil
	for range 5 {
		receive(t, got, "message")
	}
	ctl("set_permissions", user, ".*", ".*", "^$")
	b.cut()
	subscribe <- nil
	waitFor(t, func() bool { return r.Err() != nil && strings.Contains(r.Err().Error(), "403") })
	ctl("set_permissions", user, ".*", ".*", ".*")
	b.publish(queue, "5")
	subscribe <- nil
	m := receive(t, got, "message")
	if m == "4" { // which was not settled yet when the connection was lost
		m = receive(t, got, "message")
	}
	if m != "5" {
		t.Errorf("got %q after the refusal, want 5", m)
	}
	r.stopClean()
}

func TestS67NothingPublishedSinceTheFirstSubscribeIsSkipped(t *testing.T) {
	t.Parallel()
	b := newConsumerBench(t)
	queue := b.name()
	b.declare(queue, "stream", nil)
	subscribe := make(gate)
	got := make(chan string, 100)
	r := b.begin(consumer.Config{
		Queue: queue, Declare: subscribe.declare, Arguments: amqp.Table{"x-stream-offset": "next"},
	}, bodies(got))
	subscribe <- nil
	if err := r.Ready(b.ctx()); err != nil {
		t.Fatal(err)
	}
	b.cut() // before anything was delivered
	b.publish(queue, numbers(5)...)
	subscribe <- nil
	for i := range 5 {
		if m := receive(t, got, "message"); m != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", m, i)
		}
	}
	r.stopClean()
}

func TestS67ARedeclaredStreamIsReadFromItsFirstMessage(t *testing.T) {
	t.Parallel()
	b := newConsumerBench(t)
	queue := b.name()
	b.declare(queue, "stream", nil)
	subscribe := make(gate)
	got := make(chan string, 100)
	r := b.begin(consumer.Config{
		Queue: queue, Logger: logger(t), Declare: subscribe.declare, Arguments: amqp.Table{"x-stream-offset": "next"},
	}, bodies(got))
	subscribe <- nil
	if err := r.Ready(b.ctx()); err != nil {
		t.Fatal(err)
	}
	b.publish(queue, numbers(5)...)
	for range 5 {
		receive(t, got, "message")
	}
	b.cut()
	if _, err := b.plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	b.declare(queue, "stream", nil)
	b.publish(queue, "new 0", "new 1")
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case subscribe <- nil:
			case <-done:
				return
			}
		}
	}()
	for i := range 2 {
		if m := receive(t, got, "message"); m != fmt.Sprintf("new %d", i) {
			t.Fatalf("got %q, want new %d", m, i)
		}
	}
	r.stopClean()
}

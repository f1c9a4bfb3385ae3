package consuming

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// A gate lets one subscribe through at a time, or refuses it.
type gate chan error

func (g gate) declare(context.Context, *amqp.Connection) (string, error) { return "", <-g }

func TestS67AStreamsPositionSurvivesRefusals(t *testing.T) {
	t.Parallel()
	for _, offset := range []any{"first", "next", int64(0)} {
		t.Run(fmt.Sprint(offset), func(t *testing.T) {
			t.Parallel()
			b := kit.NewConsumerBench(t)
			queue := b.Name()
			b.Declare(queue, "stream", nil)
			if offset == "next" {
				b.Publish(queue, "before")
			}
			subscribe := make(gate)
			got := make(chan string, 100)
			r := b.Begin(consumer.Config{
				Queue: queue, Prefetch: 1, Declare: subscribe.declare, Arguments: amqp.Table{"x-stream-offset": offset},
			}, kit.Bodies(got))
			subscribe <- nil
			if err := r.Ready(b.Ctx()); err != nil {
				t.Fatal(err)
			}
			b.Publish(queue, kit.Numbers(5)...)
			expect := func(from, to int) {
				t.Helper()
				m := kit.Receive(t, got, "message")
				if m == fmt.Sprint(from-1) { // which was not settled yet when the connection was lost
					m = kit.Receive(t, got, "message")
				}
				for i := from; i < to; i++ {
					if m != fmt.Sprint(i) {
						t.Fatalf("got %q, want %d", m, i)
					}
					if i+1 < to {
						m = kit.Receive(t, got, "message")
					}
				}
			}
			expect(0, 5)
			b.Cut()
			b.Publish(queue, kit.Numbers(10)[5:]...)
			for _, err := range []error{
				&amqp.Error{Code: 403, Reason: "ACCESS_REFUSED - read access refused", Server: true},
				&amqp.Error{Code: 404, Reason: "NOT_FOUND - no queue 'q' in vhost '/'", Server: true},
				errors.New("not this time"),
			} {
				subscribe <- err
			}
			subscribe <- nil
			expect(5, 10)
			r.StopClean()
			if len(got) > 0 {
				t.Errorf("%q was delivered again", <-got)
			}
		})
	}
}

func TestS67AStreamsPositionSurvivesAPermissionThatIsMissingForAMoment(t *testing.T) {
	t.Parallel()
	broker := kit.NeedsControl(t)
	user := kit.Unique("s67")
	ctl := func(args ...string) {
		t.Helper()
		if _, err := broker.Ctl(kit.Within(t, kit.ConsumerTimeout), args...); err != nil {
			t.Fatal(err)
		}
	}
	ctl("add_user", user, "secret")
	t.Cleanup(func() { _, _ = broker.Ctl(context.Background(), "delete_user", user) })
	ctl("set_permissions", user, ".*", ".*", ".*")
	url := strings.Replace(broker.URL(), "guest:guest", user+":secret", 1)
	b := kit.NewConsumerBenchThrough(t, url)
	queue := b.Name()
	b.Declare(queue, "stream", nil)
	b.Publish(queue, kit.Numbers(5)...)
	subscribe := make(gate, 10)
	got := make(chan string, 100)
	r := b.Begin(consumer.Config{
		Queue: queue, Prefetch: 1, Declare: subscribe.declare, Arguments: amqp.Table{"x-stream-offset": "first"},
	}, kit.Bodies(got))
	subscribe <- nil
	for range 5 {
		kit.Receive(t, got, "message")
	}
	ctl("set_permissions", user, ".*", ".*", "^$")
	b.Cut()
	subscribe <- nil
	kit.WaitFor(t, func() bool { return r.Err() != nil && strings.Contains(r.Err().Error(), "403") })
	ctl("set_permissions", user, ".*", ".*", ".*")
	b.Publish(queue, "5")
	subscribe <- nil
	m := kit.Receive(t, got, "message")
	if m == "4" { // which was not settled yet when the connection was lost
		m = kit.Receive(t, got, "message")
	}
	if m != "5" {
		t.Errorf("got %q after the refusal, want 5", m)
	}
	r.StopClean()
}

func TestS67NothingPublishedSinceTheFirstSubscribeIsSkipped(t *testing.T) {
	t.Parallel()
	b := kit.NewConsumerBench(t)
	queue := b.Name()
	b.Declare(queue, "stream", nil)
	subscribe := make(gate)
	got := make(chan string, 100)
	r := b.Begin(consumer.Config{
		Queue: queue, Declare: subscribe.declare, Arguments: amqp.Table{"x-stream-offset": "next"},
	}, kit.Bodies(got))
	subscribe <- nil
	if err := r.Ready(b.Ctx()); err != nil {
		t.Fatal(err)
	}
	b.Cut() // before anything was delivered
	b.Publish(queue, kit.Numbers(5)...)
	subscribe <- nil
	for i := range 5 {
		if m := kit.Receive(t, got, "message"); m != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", m, i)
		}
	}
	r.StopClean()
}

func TestS67ARedeclaredStreamIsReadFromItsFirstMessage(t *testing.T) {
	t.Parallel()
	b := kit.NewConsumerBench(t)
	queue := b.Name()
	b.Declare(queue, "stream", nil)
	subscribe := make(gate)
	got := make(chan string, 100)
	r := b.Begin(consumer.Config{
		Queue: queue, Logger: kit.Logger(t), Declare: subscribe.declare, Arguments: amqp.Table{"x-stream-offset": "next"},
	}, kit.Bodies(got))
	subscribe <- nil
	if err := r.Ready(b.Ctx()); err != nil {
		t.Fatal(err)
	}
	b.Publish(queue, kit.Numbers(5)...)
	for range 5 {
		kit.Receive(t, got, "message")
	}
	b.Cut()
	if _, err := b.Plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	b.Declare(queue, "stream", nil)
	// A channel that has published to the deleted stream can send messages there, and RabbitMQ confirms them.
	b.Plain = kit.RawChannel(t)
	kit.Must(t, b.Plain.Confirm(false))
	b.Publish(queue, "new 0", "new 1")
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
	// If the connection was lost before the first results were processed, the position is 1. The message there is delivered
	// before the stream is recognised.
	for want := 0; want < 2; {
		switch m := kit.Receive(t, got, "message"); m {
		case fmt.Sprintf("new %d", want):
			want++
		case "new 1":
		default:
			t.Fatalf("got %q, want new %d", m, want)
		}
	}
	r.StopClean()
}

package rabbit_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

func TestBrokerTellsItsVersion(t *testing.T) {
	b := kit.Broker(t)
	conn := kit.Dial(t, b, "version")
	if got := conn.Properties["version"]; got != b.Version() {
		t.Errorf("server properties say %v, Version = %q", got, b.Version())
	}
	if !strings.Contains(b.String(), b.Version()) {
		t.Errorf("String = %q, want it to tell version %s", b, b.Version())
	}
}

func TestBrokerRestartKeepsPortAndDurableMessages(t *testing.T) {
	b := kit.NeedsControl(t)
	const name = "broker-restart"
	before := b.URL()
	kit.DeclareQuorum(t, b, name)
	publish(t, b, name, "kept")

	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if conn, err := amqp.Dial(b.URL()); err == nil {
		_ = conn.Close()
		t.Error("a stopped broker took a connection")
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}

	if b.URL() != before {
		t.Errorf("URL = %s after the restart, %s before", b.URL(), before)
	}
	ch := kit.Channel(t, kit.Dial(t, b, "restart"))
	d, ok, err := ch.Get(name, true)
	if err != nil || !ok || string(d.Body) != "kept" {
		t.Errorf("Get = %q, %v, %v; want the message published before the restart", d.Body, ok, err)
	}
}

func TestBrokerCountsAreExactAtOnce(t *testing.T) {
	b := kit.NeedsControl(t)
	for _, queueType := range []string{"quorum", "classic"} {
		t.Run(queueType, func(t *testing.T) {
			name := "broker-counts-" + queueType
			kit.Declare(t, b, name, queueType)
			for range 3 {
				publish(t, b, name, "m")
			}
			expectCounts(t, b, name, rabbit.Counts{Ready: 3})

			ch := kit.Channel(t, kit.Dial(t, b, "counts"))
			if err := ch.Qos(2, 0, false); err != nil {
				t.Fatal(err)
			}
			deliveries, err := ch.ConsumeWithContext(t.Context(), name, "", false, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			first := <-deliveries
			<-deliveries
			expectCounts(t, b, name, rabbit.Counts{Ready: 1, Unacked: 2, Consumers: 1})

			if err := first.Ack(false); err != nil {
				t.Fatal(err)
			}
			third := <-deliveries // comes once the ack was taken
			expectCounts(t, b, name, rabbit.Counts{Unacked: 2, Consumers: 1})

			if err := ch.Cancel(third.ConsumerTag, false); err != nil {
				t.Fatal(err)
			}
			if err := third.Nack(false, true); err != nil {
				t.Fatal(err)
			}
			want := rabbit.Counts{Ready: 1, Unacked: 1}
			if err := b.AwaitQueue(t.Context(), name, func(c rabbit.Counts) bool {
				c.Consumers = 0 // a quorum queue counts a cancelled consumer until all is settled
				return c == want
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBrokerCountsOfAMissingQueue(t *testing.T) {
	b := kit.NeedsControl(t)
	if _, err := b.Queue(t.Context(), "broker-missing"); !errors.Is(err, rabbit.ErrNoQueue) {
		t.Errorf("Queue = %v, want ErrNoQueue", err)
	}
}

func TestBrokerAwaitsCounts(t *testing.T) {
	b := kit.NeedsControl(t)
	const name = "broker-await"
	kit.DeclareQuorum(t, b, name)
	publish(t, b, name, "m")
	if err := b.AwaitQueue(t.Context(), name, func(c rabbit.Counts) bool { return c.Ready == 1 }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := b.AwaitQueue(ctx, name, func(c rabbit.Counts) bool { return c.Ready == 2 })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Ready:1") {
		t.Errorf("AwaitQueue = %v, want the deadline and the last counts", err)
	}
}

func TestBrokerListsAndClosesConnections(t *testing.T) {
	b := kit.NeedsControl(t)
	conn := kit.Dial(t, b, "to be closed")
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	names, err := b.Connections(t.Context())
	if err != nil || !slices.Contains(names, "to be closed") {
		t.Fatalf("Connections = %q, %v; want ours among them", names, err)
	}

	if err := b.CloseConnections(t.Context(), `the "reason"`); err != nil {
		t.Fatal(err)
	}

	if e := <-closed; e == nil || e.Code != amqp.ConnectionForced || !strings.Contains(e.Reason, `the "reason"`) {
		t.Errorf("closed with %v, want 320 with the reason", e)
	}
	if names, err = b.Connections(t.Context()); err != nil || slices.Contains(names, "to be closed") {
		t.Errorf("Connections = %q, %v; want ours no more", names, err)
	}
}

func TestBrokerRunsRabbitmqctl(t *testing.T) {
	b := kit.NeedsControl(t)
	out, err := b.Ctl(t.Context(), "list_vhosts", "name")
	if err != nil || !strings.Contains(out, "/") {
		t.Errorf("Ctl = %q, %v; want the virtual host /", out, err)
	}
	if _, err := b.Ctl(t.Context(), "no_such_command"); err == nil {
		t.Error("Ctl returned no error for a command that does not exist")
	}
}

func TestBrokerDeletesQueues(t *testing.T) {
	b := kit.NeedsControl(t)
	const name = "broker-delete"
	kit.DeclareQuorum(t, b, name)
	for range 2 { // the second time there is none
		if err := b.DeleteQueue(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Queue(t.Context(), name); !errors.Is(err, rabbit.ErrNoQueue) {
		t.Errorf("Queue = %v after the deletion, want ErrNoQueue", err)
	}
}

func TestForeignBrokerIsNotTouched(t *testing.T) {
	t.Setenv("AMQP_URL", kit.Broker(t).URL())
	foreign, err := rabbit.Start(t.Context(), rabbit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if foreign.Owned() || !strings.HasSuffix(foreign.String(), "from AMQP_URL") {
		t.Errorf("Owned = %v, String = %q", foreign.Owned(), foreign)
	}
	_, queueErr := foreign.Queue(t.Context(), "q")
	_, connErr := foreign.Connections(t.Context())
	_, ctlErr := foreign.Ctl(t.Context(), "status")
	for _, err := range []error{
		foreign.Stop(t.Context()), foreign.Restart(t.Context()), foreign.CloseConnections(t.Context(), "x"),
		queueErr, connErr, ctlErr,
	} {
		if !errors.Is(err, rabbit.ErrNotOwned) {
			t.Errorf("error = %v, want ErrNotOwned", err)
		}
	}
	if err := foreign.Close(t.Context()); err != nil {
		t.Error(err)
	}
	kit.Dial(t, foreign, "still there")
}

func TestForeignBrokerThatDoesNotAnswerIsAnError(t *testing.T) {
	u := url.URL{Scheme: "amqp", User: url.UserPassword("me", "secret"), Host: "127.0.0.1:1"}
	t.Setenv("AMQP_URL", u.String())
	_, err := rabbit.Start(t.Context(), rabbit.Options{})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Start = %v, want an error without the password", err)
	}
}

// publish publishes one persistent message to a queue and returns when the broker has it.
func publish(t *testing.T, b *rabbit.Broker, queue, body string) {
	t.Helper()
	ch := kit.Channel(t, kit.Dial(t, b, "publish"))
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	confirm, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), "", queue, true, false,
		amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent})
	if err != nil {
		t.Fatal(err)
	}
	if acked, err := confirm.WaitContext(t.Context()); err != nil || !acked {
		t.Fatalf("confirmed = %v, %v", acked, err)
	}
}

func expectCounts(t *testing.T, b *rabbit.Broker, queue string, want rabbit.Counts) {
	t.Helper()
	if got, err := b.Queue(t.Context(), queue); err != nil || got != want {
		t.Errorf("Queue = %+v, %v; want %+v", got, err, want)
	}
}

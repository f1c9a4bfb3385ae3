package kit

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// NeedsDocker fails the test of something that takes containers if it was not had. Where there can be no containers, the
// test is reported as not covered.
func NeedsDocker(t *testing.T, err error) {
	t.Helper()
	var none *rabbit.DockerRequiredError
	if errors.As(err, &none) || errors.Is(err, rabbit.ErrNotOwned) {
		Skip(t, "needs Docker")
	}
	Must(t, err)
}

// Timed logs how long an operation took.
func Timed(t *testing.T, what string, op func()) {
	t.Helper()
	start := time.Now()
	op()
	t.Logf("%-16s %6.3f s", what, time.Since(start).Seconds())
}

// Must fails the test on an error of what it arranges.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Dial connects under a name and disconnects at the end of the test.
func Dial(t *testing.T, b *rabbit.Broker, name string) *amqp.Connection {
	t.Helper()
	conn, err := amqp.DialConfig(b.URL(), amqp.Config{Properties: amqp.Table{"connection_name": name}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(5 * time.Second)) })
	return conn
}

// Channel opens a channel.
func Channel(t *testing.T, conn *amqp.Connection) *amqp.Channel {
	t.Helper()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// DeclareQuorum declares a quorum queue and deletes it at the end of the test.
func DeclareQuorum(t *testing.T, b *rabbit.Broker, name string) {
	t.Helper()
	Declare(t, b, name, "quorum")
}

// Declare declares a durable queue and deletes it at the end of the test.
func Declare(t *testing.T, b *rabbit.Broker, name, queueType string) {
	t.Helper()
	ch := Channel(t, Dial(t, b, "declare"))
	if _, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": queueType}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.DeleteQueue(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
}

package kit

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// NeedsDocker checks the error of an operation that needs containers. Without Docker, and on the broker from AMQP_URL, the test
// is skipped and reported as not covered. Any other error fails it.
func NeedsDocker(t *testing.T, err error) {
	t.Helper()
	var none *rabbit.DockerRequiredError
	if errors.As(err, &none) || errors.Is(err, rabbit.ErrNotOwned) {
		Skip(t, "needs Docker")
	}
	Must(t, err)
}

// Timed logs the duration of an operation.
func Timed(t *testing.T, what string, op func()) {
	t.Helper()
	start := time.Now()
	op()
	t.Logf("%-16s %6.3f s", what, time.Since(start).Seconds())
}

// Must fails the test if a step of its setup failed.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Dial opens a connection with a name. It is closed at the end of the test.
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
